"""What a Redis says of itself, and whether this user may do what the service does; nothing is written. Blocking."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, time
from types import TracebackType
from typing import Any, Final, Self

from redis import Redis
from redis.exceptions import AskError, NoPermissionError, NoScriptError, ResponseError

from consumer.redis.commands import Command
from consumer.redis.failures import Failures
from consumer.redis.schema import bucket, index_prefix, names_key, photo_key, quality_key
from consumer.redis.urls import readable

#: No photo has this id: it has a control character in it.
_NOBODY: Final = "doctor\x00"
_PHOTO: Final = photo_key(_NOBODY)
_INDEX: Final = index_prefix(bucket(_NOBODY)) + _NOBODY
_GOOD, _NAMES = quality_key(bucket(_NOBODY)), names_key(bucket(_NOBODY))
_CACHED: Final = f"c:{_NOBODY}"
#: A call of each command that the service and its commands use, which changes nothing, whatever Redis holds. HSET has a
#: field without a value: it is refused for that only after the user's rights and the memory were looked at.
_CALLS: Final[tuple[Command, ...]] = (
    ("HGETALL", _PHOTO),
    ("HGET", _PHOTO, "ver"),
    ("HMGET", _PHOTO, "ver"),
    ("HKEYS", _PHOTO),
    ("HLEN", _PHOTO),
    ("HSET", _PHOTO, "ver", "1", "q"),
    ("HDEL", _PHOTO, "ver"),
    ("TYPE", _PHOTO),
    ("PTTL", _PHOTO),
    ("PERSIST", _PHOTO),
    ("ZADD", _INDEX, "XX", "0", _NOBODY),
    ("ZREM", _INDEX, _NOBODY),
    ("ZSCORE", _INDEX, _NOBODY),
    ("ZREVRANGEBYSCORE", _INDEX, "1", "0"),
    ("ZSCAN", _INDEX, "0"),
    ("ZADD", _GOOD, "XX", "0", _NOBODY),
    ("ZCARD", _GOOD),
    ("SISMEMBER", _NAMES, _NOBODY),
    ("SMEMBERS", _NAMES),
    ("EVAL", "return 1", 1, _PHOTO),
    ("EVALSHA", "0" * 40, 1, _PHOTO),
    ("SCAN", "0", "COUNT", 1),
)
#: No call of this one changes nothing. Redis 6 knows no such question: there it is not tried.
_MAY_ADD: Final = "return (redis.acl_check_cmd == nil or redis.acl_check_cmd('SADD', KEYS[1], '')) and 1 or 0"
#: Of the score cache.
_CACHE_CALLS: Final[tuple[Command, ...]] = (("GET", _CACHED), ("SET", _CACHED, "", "XX"))
#: What a command is answered that this user may call; another node of a cluster has the key.
_HARMLESS: Final = (NoScriptError, AskError)
_HALF: Final = "wrong number of arguments"


@dataclass(frozen=True, slots=True)
class Refusals:
    """The commands that this user may not call, and what else writes are refused for: memory, a replica, a disk."""

    forbidden: tuple[str, ...]
    others: tuple[str, ...]


class Inspection:
    """The questions to the server that a URL names; a context manager."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._failures = Failures(url)
        self._client: Any = Redis.from_url(
            readable(url),
            decode_responses=True,
            encoding_errors="surrogateescape",
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ping(self) -> None:
        """Checks that it answers.

        Raises:
            DependencyDown: it does not.
        """
        with self._failures.mapped(), suppress(NoPermissionError):
            self._client.execute_command("PING")

    def info(self) -> Mapping[str, str] | None:
        """What INFO says; None where this user may not ask.

        Raises:
            DependencyDown: it does not answer.
        """
        with self._failures.mapped():
            try:
                found = self._client.info()
            except ResponseError:
                return None
        return {str(name): str(value) for name, value in found.items()}

    def saves(self) -> bool | None:
        """Whether it writes snapshots; None where this user may not ask.

        Raises:
            DependencyDown: it does not answer.
        """
        with self._failures.mapped():
            try:
                found = self._client.config_get("save")
            except ResponseError:
                return None
        return bool(found.get("save"))

    def ahead_s(self) -> float | None:
        """How far its clock is ahead of this host's; None where this user may not ask.

        Raises:
            DependencyDown: it does not answer.
        """
        began, began_s = time(), monotonic()
        with self._failures.mapped():
            try:
                seconds, microseconds = self._client.time()
            except ResponseError:
                return None
        return float(seconds + microseconds / 1e6 - (began + (monotonic() - began_s) / 2))

    def refusals(self, *, cache: bool) -> Refusals:
        """Calls each command without an effect, those of the score cache too where it is used.

        Raises:
            DependencyDown: it does not answer.
        """
        forbidden, others = list[str](), dict[str, None]()
        for call in (*_CALLS, *(_CACHE_CALLS if cache else ())):
            with self._failures.mapped():
                try:
                    self._client.execute_command(*call)
                except _HARMLESS:
                    continue
                except NoPermissionError:
                    forbidden.append(str(call[0]).lower())
                except ResponseError as error:
                    if _HALF not in str(error):
                        others[str(error)] = None
        with self._failures.mapped(), suppress(NoPermissionError, AskError):
            if not self._client.eval(_MAY_ADD, 1, _NAMES):
                forbidden.append("sadd")
        return Refusals(tuple(forbidden), tuple(others))
