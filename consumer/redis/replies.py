"""The shapes of Redis' replies: what no reply to a command looks like, nobody may take for one. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from redis.exceptions import InvalidResponse

from consumer.redis.commands import Command

#: What redis-py raises from what is no reply to the command, beside its own errors.
MISREAD: Final = (TypeError, ValueError, LookupError, AttributeError, RecursionError)


def misfit(commands: Sequence[Command], replies: Sequence[Any]) -> InvalidResponse | None:
    """The failure of a connection whose replies do not have the shapes of these commands'; errors always have.

    Such a reply belongs to another request or comes from no Redis, and so may all that follow it.
    """
    for command, reply in zip(commands, replies, strict=True):
        shape = _SHAPES.get(command[0])
        if shape is not None and not isinstance(reply, Exception) and not shape(reply):
            return InvalidResponse(f"the answer is none to {command[0]!s}: {reply!r:.80}")
    return None


def misread(error: Exception) -> InvalidResponse:
    """The failure of a connection whose reply redis-py could not read.

    Raises:
        UnicodeEncodeError: it was an argument of ours that could not be sent.
    """
    if isinstance(error, UnicodeEncodeError):
        raise error
    return InvalidResponse(f"the answer cannot be read: {error}")


def _is_text(reply: object) -> bool:
    return isinstance(reply, str | bytes)


def _is_text_or_none(reply: object) -> bool:
    return reply is None or _is_text(reply)


def _is_score_or_none(reply: object) -> bool:
    return reply is None or isinstance(reply, float)


def _is_hash(reply: object) -> bool:
    return isinstance(reply, dict) and all(_is_text(part) for entry in reply.items() for part in entry)


def _are_fields(reply: object) -> bool:
    return isinstance(reply, list) and all(map(_is_text_or_none, reply))


def _is_ranking(reply: object) -> bool:
    """Members with their scores, in pairs (RESP3) or one after the other."""
    if not isinstance(reply, list):
        return False
    if all(map(_is_text, reply)):
        return len(reply) % 2 == 0
    return all(isinstance(pair, list) and list(map(type, pair))[1:] == [float] and _is_text(pair[0]) for pair in reply)


def _are_members(reply: object) -> bool:
    return isinstance(reply, list | set) and all(map(_is_text, reply))


def _is_count(reply: object) -> bool:
    return isinstance(reply, int)


def _is_page(reply: object) -> bool:
    return isinstance(reply, tuple) and len(reply) == 2 and isinstance(reply[1], list)  # noqa: PLR2004 - cursor, page


def _is_script_answer(reply: object) -> bool:
    return bool(reply) and (
        _is_text(reply) or (isinstance(reply, list) and all(_is_text(part) or _are_fields(part) for part in reply))
    )


def _are_slots(reply: object) -> bool:
    return isinstance(reply, list) and all(map(_is_slot_range, reply))


def _is_slot_range(reply: object) -> bool:
    match reply:
        case [int(), int(), [str() | bytes() | None, int(), *_], *_]:
            return True
    return False


_SHAPES: Final[Mapping[object, Callable[[object], bool]]] = {
    "GET": _is_text_or_none,
    "HGET": _is_text_or_none,
    "HGETALL": _is_hash,
    "HMGET": _are_fields,
    "SMEMBERS": _are_members,
    "ZCARD": _is_count,
    "ZSCORE": _is_score_or_none,
    "ZREVRANGEBYSCORE": _is_ranking,
    "ZSCAN": _is_page,
    "CLUSTER": _are_slots,
    "EVAL": _is_script_answer,
    "EVALSHA": _is_script_answer,
}
