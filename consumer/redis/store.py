"""Version-ordered writes of tags and tombstones to Redis."""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from consumer.errors import DependencyDown, PhotoRejected
from consumer.events import Deletion, Tags
from consumer.redis.async_link import AsyncLink
from consumer.redis.commands import Command, Script
from consumer.redis.failures import Failures, is_wrong_type
from consumer.redis.schema import bucket, decision_of, fields_of, index_prefix, keys_of, photo_key, quality_key
from consumer.tags import format_source, say_the_same, supersedes

#: `mended`: the same was there, but its hash or an index was damaged. `wrong type`: somebody else's key is in the way,
#: and nothing was written.
WriteOutcome = Literal["written", "unchanged", "mended", "superseded", "wrong type"]
#: What Redis holds of a photo, compared with what it should hold.
Difference = Literal["missing", "older", "different", "not indexed", "unreadable", "wrong type"]
#: What an equal version does where the hash has other content: it stays, or it is restored.
_Rule = Literal["keep", "restore"]

_OUTCOMES: Final[Mapping[bytes, WriteOutcome]] = {
    b"written": "written",
    b"unchanged": "unchanged",
    b"mended": "mended",
    b"superseded": "superseded",
}
_UNDECLARED: Final = b"undeclared"
_MILLISECONDS: Final = re.compile(rb"\.\d{3}Z$")
#: How often a photo may change between two calls of the script.
_ROUNDS: Final = 20


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did, and what is in force after it; None where that cannot be read."""

    outcome: WriteOutcome
    in_force: Tags | Deletion | None


class Store(AbstractAsyncContextManager["Store"]):
    """Writes to Redis. An async context manager that owns the connections."""

    def __init__(self, url: str, *, timeout_s: float, cluster: bool = False) -> None:
        self._redis = AsyncLink(url, timeout_s, cluster=cluster)
        self._failures = Failures(url)
        self._script = Script("write_tags.lua")

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    async def ping(self) -> None:
        """Checks that Redis answers.

        Raises:
            DependencyDown: it does not.
        """
        with self._failures.mapped():
            await self._redis.ping()

    async def write(self, decision: Tags | Deletion) -> Written:
        """Writes tags, or replaces them by a tombstone, unless the same or something newer is there (`supersedes`).

        The answer to a repeated write has what Redis holds, so that the result topic and Redis always agree on when a
        photo was tagged; with the probabilities of this decision, if that is of the same record or says the same.
        A hash that cannot be read is replaced where its version does not forbid it: no reader has anything of it.

        Raises:
            DependencyDown: Redis does not answer or cannot take writes now (out of memory, loading, read-only).
            PhotoRejected: `redis_key`, where a key of another type is in the place of the hash or of an index.
        """
        (answer,) = await self._run([decision], "keep")
        return await self._concluded(decision, answer)

    async def write_each(self, decisions: Sequence[Tags | Deletion]) -> list[Written | PhotoRejected]:
        """As `write`, of many in one round trip; what `write` raises of one is its answer.

        Raises:
            DependencyDown: as `write`; some of them may have been written.
        """
        answers = await self._run(decisions, "keep")
        found: list[Written | PhotoRejected] = []
        for decision, answer in zip(decisions, answers, strict=True):
            try:
                found.append(await self._concluded(decision, answer))
            except PhotoRejected as rejected:
                found.append(rejected)
        return found

    async def write_all(self, decisions: Sequence[Tags | Deletion]) -> list[WriteOutcome]:
        """Restores each in one round trip; each is atomic by itself, and all may be repeated.

        As `write`, but where Redis holds the same version with other content, the later call wins.

        Raises:
            DependencyDown: as `write`; some of them may have been written.
        """
        return [_outcome(answer) for answer in await self._run(decisions, "restore")]

    async def in_force(self, photo_id: str) -> Tags | Deletion | None:
        """What Redis holds of a photo; None where it holds nothing that can be read.

        The `probabilities` of tags are those of their brands: Redis keeps no others.

        Raises:
            DependencyDown: Redis does not answer.
        """
        with self._failures.mapped():
            (present,) = await self._redis.run([("HGETALL", photo_key(photo_id))])
        return None if is_wrong_type(present) else _readable(photo_id, present)

    async def newer(self, decision: Tags | Deletion) -> Tags | Deletion | None:
        """What Redis holds of a photo, if that `supersedes` a decision; nearly always None, which takes one HMGET.

        Raises:
            DependencyDown: Redis does not answer.
        """
        return (await self.newer_each([decision]))[0]

    async def newer_each(self, decisions: Sequence[Tags | Deletion]) -> list[Tags | Deletion | None]:
        """As `newer`, of many in one round trip, and one more for each that is not as it was decided.

        Raises:
            DependencyDown: Redis does not answer.
        """
        commands: list[Command] = [("HMGET", photo_key(each.photo_id), "ver", "src") for each in decisions]
        with self._failures.mapped():
            found = await self._redis.run(commands)
        return [await self._overtaken(*pair) for pair in zip(decisions, found, strict=True)]

    async def _overtaken(
        self, decision: Tags | Deletion, present: Sequence[bytes | None] | Exception
    ) -> Tags | Deletion | None:
        if is_wrong_type(present) or present == [decision.version.encode(), format_source(decision.source).encode()]:
            return None
        now = await self.in_force(decision.photo_id)
        return _with_probabilities(now, decision) if now is not None and supersedes(now, decision) else None

    async def differences(self, decisions: Sequence[Tags | Deletion]) -> list[Difference | None]:
        """What Redis lacks of each, in one round trip; None where it holds the same or something newer.

        Raises:
            DependencyDown: Redis does not answer.
        """
        commands: list[Command] = []
        for decision in decisions:
            commands.append(("HGETALL", photo_key(decision.photo_id)))
            commands += (("ZSCORE", key, decision.photo_id) for key in _index_keys(decision))
        with self._failures.mapped():
            replies = iter(await self._redis.run(commands))
        return [
            _difference(decision, next(replies), [next(replies) for _ in _index_keys(decision)])
            for decision in decisions
        ]

    async def _concluded(self, decision: Tags | Deletion, answer: Sequence[Any]) -> Written:
        """What the script's answer means, as `write`.

        Raises:
            DependencyDown: as `write`.
            PhotoRejected: as `write`.
        """
        written = _written(decision, answer)
        if written.in_force is decision:
            return written
        if written.in_force is None and written.outcome != "superseded":
            (answer,) = await self._run([decision], "restore")
            written = _written(decision, answer)
        return replace(written, in_force=_with_probabilities(written.in_force, decision))

    async def _run(self, decisions: Sequence[Tags | Deletion], rule: _Rule) -> list[list[Any]]:
        """The script's answers; it is called again where a photo loses brands, which only Redis knows.

        Raises:
            DependencyDown: as `write`, or the script asks for ever.
        """
        keys: list[list[str | bytes]] = [list(keys_of(decision)) for decision in decisions]
        answers: list[list[Any]] = [[]] * len(decisions)
        calls = list(range(len(decisions)))
        for _ in range(_ROUNDS):
            commands = [self._script.call(keys[place], _arguments(decisions[place], rule)) for place in calls]
            with self._failures.mapped():
                for place, answer in zip(calls, await self._redis.run(commands, self._script), strict=True):
                    answers[place] = answer
            # Repeated more than once only if another writer changed the photo meanwhile.
            calls = [place for place in calls if answers[place][0] == _UNDECLARED]
            if not calls:
                return answers
            for place in calls:
                keys[place] += answers[place][1:]
        raise DependencyDown("redis", f"the script asked for other keys {_ROUNDS} times")


def _arguments(decision: Tags | Deletion, rule: _Rule) -> list[str | bytes]:
    """The script's arguments after the keys."""
    arguments: list[str | bytes] = [decision.photo_id, index_prefix(bucket(decision.photo_id)), rule]
    for name, value in fields_of(decision).items():
        arguments += (name, value)
    return arguments


def _index_keys(decision: Tags | Deletion) -> list[str]:
    """The indexes that a photo is in."""
    if isinstance(decision, Deletion):
        return []
    name = bucket(decision.photo_id)
    prefix = index_prefix(name)
    good = [quality_key(name)] if decision.quality.good else []
    return [*(prefix + brand.brand for brand in decision.brands), *good]


def _written(decision: Tags | Deletion, answer: Sequence[Any]) -> Written:
    """What the script did, and what it found.

    Raises:
        DependencyDown: it is no answer of this script.
        PhotoRejected: a key of another type is in the way.
    """
    outcome = _outcome(answer)
    if outcome == "wrong type":
        key, kind = (part.decode(errors="replace") for part in answer[1:])
        raise PhotoRejected("redis_key", f"key {key} is a {kind} that the tagger did not write")
    if outcome == "written":
        return Written(outcome, decision)
    present = answer[1]
    return Written(outcome, _readable(decision.photo_id, dict(zip(present[::2], present[1::2], strict=True))))


def _outcome(answer: Sequence[Any]) -> WriteOutcome:
    """The first part of the script's answer; the others are those of this outcome.

    Raises:
        DependencyDown: it is no answer of this script.
    """
    match answer:
        case [b"wrong type", bytes(), bytes()]:
            return "wrong type"
        case [bytes(name), [*fields]] if name in _OUTCOMES and len(fields) % 2 == 0 and None not in fields:
            return _OUTCOMES[name]
    raise DependencyDown("redis", f"the script answered {answer!r:.80}")


def _readable(photo_id: str, present: Mapping[bytes, bytes]) -> Tags | Deletion | None:
    """What a hash says; None where it is empty or cannot be read."""
    try:
        return decision_of(photo_id, _texts(present))
    except ValueError:
        return None


def _texts(present: Mapping[bytes, bytes]) -> dict[str, str]:
    """Fields as text; what is not UTF-8 keeps its bytes as escapes, which no field of ours may have."""
    return {_escaped(name): _escaped(value) for name, value in present.items()}


def _escaped(part: bytes) -> str:
    return part.decode(errors="surrogateescape")


def _with_probabilities(held: Tags | Deletion | None, decision: Tags | Deletion) -> Tags | Deletion | None:
    """What Redis holds, with all probabilities if those of a decision belong to it."""
    if not isinstance(held, Tags) or not isinstance(decision, Tags):
        return held
    if held.source == decision.source or say_the_same(held, decision):
        return replace(held, probabilities=decision.probabilities)
    return held


def _difference(
    decision: Tags | Deletion, present: Mapping[bytes, bytes] | Exception, scores: Sequence[float | Exception | None]
) -> Difference | None:
    if isinstance(present, Exception):
        return "wrong type"
    if isinstance(decision, Tags) and b"t" in present:  # versions up to 0.1.0 kept milliseconds
        present = {**present, b"t": _MILLISECONDS.sub(b"Z", present[b"t"])}
    if present == {name.encode(): value.encode() for name, value in fields_of(decision).items()}:
        return _index_difference(decision, scores)
    held = _readable(decision.photo_id, present)
    if held is None:
        return "unreadable" if present else "missing"
    if supersedes(held, decision):
        return None
    return "older" if supersedes(decision, held) else "different"


def _index_difference(
    decision: Tags | Deletion, scores: Sequence[float | Exception | None]
) -> Literal["not indexed", "wrong type"] | None:
    if any(isinstance(score, Exception) for score in scores):
        return "wrong type"
    listed = isinstance(decision, Deletion) or all(score == decision.quality.score for score in scores)
    return None if listed else "not indexed"
