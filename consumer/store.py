"""The Redis edge of the path: version-ordered writes of tags and tombstones."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Final, Literal, Self

import orjson
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from consumer import layout
from consumer.errors import DependencyDown
from consumer.events import Deletion, Tags

WriteOutcome = Literal["written", "unchanged", "superseded"]

_MAX_CONNECTIONS: Final = 16
_SCRIPT: Final = "write_tags.lua"


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did, and the tags in force after it (None after a tombstone)."""

    outcome: WriteOutcome
    tags: Tags | None


class Store:
    """Writes to Redis. An async context manager that owns the connections."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
        )
        self._redis = Redis.from_pool(pool)
        self._write = self._redis.register_script(files("consumer").joinpath(_SCRIPT).read_text(encoding="utf-8"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    async def ping(self) -> None:
        """Checks that Redis answers.

        Raises:
            DependencyDown: it does not.
        """
        with _mapped():
            await self._redis.ping()

    async def write(self, tags: Tags) -> Written:
        """Writes tags unless the same or a newer version is there.

        The answer to a repeated write carries the tags that Redis holds (with the probabilities of this one), so that
        the result topic never disagrees with Redis about when a photo was tagged.

        Raises:
            DependencyDown: Redis does not answer or cannot take writes now (out of memory, loading, read-only).
        """
        fields = layout.fields_of(tags)
        brands = [brand.brand for brand in tags.brands]
        outcome, present = await self._run(tags.photo_id, tags.version, tags.quality.score, brands, fields)
        if outcome == "written":
            return Written(outcome, tags)
        in_force = layout.tags_of(tags.photo_id, present)
        if in_force is not None and outcome == "unchanged":
            in_force = replace(in_force, probabilities=tags.probabilities)
        return Written(outcome, in_force)

    async def delete(self, deletion: Deletion) -> Written:
        """Replaces the tags by a tombstone unless the same or a newer version is there.

        Raises:
            DependencyDown: as `write`.
        """
        fields = layout.tombstone_of(deletion)
        outcome, _ = await self._run(deletion.photo_id, deletion.version, 0.0, [], fields)
        return Written(outcome, None)

    async def _run(
        self, photo_id: str, version: str, quality: float, brands: Sequence[str], fields: Mapping[str, str | bytes]
    ) -> tuple[WriteOutcome, dict[str, str]]:
        arguments: list[str | bytes] = [
            photo_id,
            layout.index_prefix(layout.bucket(photo_id)),
            version,
            repr(quality),
            orjson.dumps(brands),
        ]
        for name, value in fields.items():
            arguments += (name, value)
        with _mapped():
            outcome, *present = await self._write(keys=[layout.photo_key(photo_id)], args=arguments)
        texts = [entry.decode() for entry in present]
        return outcome.decode(), dict(zip(texts[::2], texts[1::2], strict=True))


@contextmanager
def _mapped() -> Iterator[None]:
    """Every failure of Redis is its own: our keys and arguments are always well-formed.

    `maxmemory` with noeviction, a replica, a loading server and refused credentials all mend without the photo.

    Raises:
        DependencyDown: for each of them.
    """
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise DependencyDown("redis", f"{type(error).__name__}: {error}") from None
