"""The synchronous and the asynchronous reader."""

from collections.abc import Iterable
from datetime import datetime
from typing import Self

from consumer.reader import reading
from consumer.reader.found import Page, Query
from consumer.reader.reading import Reading, T, Unreadable
from consumer.reader.watching import AsyncWatch, Properties, Watch
from consumer.redis.async_link import AsyncLink
from consumer.redis.thread_link import ThreadLink
from consumer.tags import Tags

TOPIC = "photo-tags"


def ignore(_: str) -> None:
    """Tells nobody."""


class TagReader:
    """Reads tags from Redis. A context manager that owns its connections; safe to share between threads.

    With `cluster`, the URL names a node of a Redis Cluster; the reader finds the others and follows moving slots.
    A key that another program wrote, or damaged, counts as missing: `unreadable` is called with a sentence that names
    it and says why.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 2.0, cluster: bool = False, unreadable: Unreadable = ignore
    ) -> None:
        self._redis = ThreadLink(url, timeout_s, cluster=cluster)
        self._unreadable = unreadable

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def get(self, photo_id: str) -> Tags | None:
        """The tags of one photo, None where it has none (yet) that can be read, or was deleted.

        `Tags.probabilities` has those of its brands: all of them are in the result topic only.

        Raises:
            RedisError: Redis does not answer.
        """
        return self.get_many([photo_id]).get(photo_id)

    def get_many(self, photo_ids: Iterable[str]) -> dict[str, Tags]:
        """The tags of many photos, by id; ids without tags are left out. One round trip (of each node) for every 500.

        Raises:
            RedisError: as `get`.
        """
        return self._carried_out(reading.get_many(photo_ids, self._unreadable))

    def find(
        self,
        brands: str | Iterable[str] | None = None,
        min_quality: float = 0.0,
        *,
        level: int | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """The best photos, best first, at most `limit` of at least `min_quality`.

        With one brand or many: the photos that show any of them, since those that show all can be told by
        `Found.brands`. Without: the good photos, by the threshold of the release that they were tagged under. `level`
        and `since` (tagged at or after it) leave out others.

        The page's `cursor` asks for the next one, with the same other arguments. While tags are written, no photo
        that keeps its quality is missed or comes twice. Index entries whose photo has no such tag (any more) are left
        out.

        Raises:
            RedisError: as `get`.
            ValueError: an argument is out of its range, or no cursor.
        """
        query = Query.of(brands, min_quality, level=level, since=since, limit=limit, cursor=cursor)
        return self._carried_out(reading.find(query, self._unreadable))

    def brands(self) -> dict[str, int]:
        """How many photos show each brand, the most frequent first: the brands that photos have, not those of a model.

        Raises:
            RedisError: as `get`.
        """
        return self._carried_out(reading.brands(self._unreadable))

    def watch(
        self,
        bootstrap_servers: str,
        *,
        position: str | None = None,
        topic: str = TOPIC,
        idle_s: float | None = None,
        properties: Properties | None = None,
    ) -> Watch:
        """The changes of tags as they happen, from the result topic: see `Watch`. Needs `confluent-kafka`, no Redis."""
        return Watch(
            bootstrap_servers,
            position=position,
            topic=topic,
            idle_s=idle_s,
            properties=properties,
            unreadable=self._unreadable,
        )

    def _carried_out(self, operation: Reading[T]) -> T:
        try:
            commands = next(operation)
            while True:
                commands = operation.send(self._redis.run(commands))
        except StopIteration as end:
            value: T = end.value
            return value


class AsyncTagReader:
    """As `TagReader`, for asyncio: one event loop, any number of its tasks. An async context manager."""

    def __init__(
        self, url: str, *, timeout_s: float = 2.0, cluster: bool = False, unreadable: Unreadable = ignore
    ) -> None:
        self._redis = AsyncLink(url, timeout_s, cluster=cluster, text=True)
        self._unreadable = unreadable

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    async def get(self, photo_id: str) -> Tags | None:
        """As `TagReader.get`."""
        return (await self.get_many([photo_id])).get(photo_id)

    async def get_many(self, photo_ids: Iterable[str]) -> dict[str, Tags]:
        """As `TagReader.get_many`."""
        return await self._carried_out(reading.get_many(photo_ids, self._unreadable))

    async def find(
        self,
        brands: str | Iterable[str] | None = None,
        min_quality: float = 0.0,
        *,
        level: int | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """As `TagReader.find`."""
        query = Query.of(brands, min_quality, level=level, since=since, limit=limit, cursor=cursor)
        return await self._carried_out(reading.find(query, self._unreadable))

    async def brands(self) -> dict[str, int]:
        """As `TagReader.brands`."""
        return await self._carried_out(reading.brands(self._unreadable))

    def watch(
        self,
        bootstrap_servers: str,
        *,
        position: str | None = None,
        topic: str = TOPIC,
        idle_s: float | None = None,
        properties: Properties | None = None,
    ) -> AsyncWatch:
        """As `TagReader.watch`, with `async with` and `async for`."""
        return AsyncWatch(
            bootstrap_servers,
            position=position,
            topic=topic,
            idle_s=idle_s,
            properties=properties,
            unreadable=self._unreadable,
        )

    async def _carried_out(self, operation: Reading[T]) -> T:
        try:
            commands = next(operation)
            while True:
                commands = operation.send(await self._redis.run(commands))
        except StopIteration as end:
            value: T = end.value
            return value
