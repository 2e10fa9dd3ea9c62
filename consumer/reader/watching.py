"""`watch`: the result topic as an iterator of changes."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final, Self

from consumer.reader.changes import Change, Position, Restarted, WatchError, change_of

if TYPE_CHECKING:
    from consumer.reader.topic import Described, Read, ResultTopic

Properties = Mapping[str, str | int | float | bool]
Connect = Callable[[], "ResultTopic"]

#: How often it is looked whether the topic is still the same one, with the same partitions.
_LOOK_S: Final = 1.0
#: How much longer than `idle_s` the end of a partition is waited for: brokers that are slow are not idle.
_CATCH_UP_S: Final = 60.0


class Watch(Iterator[Change]):
    """The changes of tags, from the result topic: the last one of each photo in it, then each as it happens.

    A context manager and an iterator, for one thread; only `stop` may be called by others. It begins behind `position`,
    or at the beginning of the topic, and reads outside any consumer group: any number of watches see every change.
    Changes of one photo come in order, each at least once: from a position that was kept earlier, they come again. A
    photo may come with tags that were there before: compare `version` where each one counts.

    It ends after `stop`, or where nothing came for `idle_s` and all that was in the topic has been read; the latter is
    waited for a minute longer. While Kafka is away it waits. Records that cannot be read are passed over: `skipped`
    counts them, and `unreadable` is told of each.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        position: str | None = None,
        topic: str = "photo-tags",
        idle_s: float | None = None,
        properties: Properties | None = None,
        unreadable: Callable[[str], object] = str,
    ) -> None:
        """Makes the clients; `properties` are more of librdkafka's, such as those of TLS and logins.

        Raises:
            ValueError: the position is none.
            WatchError: a property is none.
            ImportError: `confluent-kafka` is not installed.
        """
        self._position = None if position is None else Position.of(position)
        from consumer.reader.topic import ResultTopic  # noqa: PLC0415 - the reader works without Kafka's client

        self._topic = ResultTopic(bootstrap_servers, topic, properties or {})
        self._name, self._where = topic, f"{bootstrap_servers}: topic {topic}"
        self._idle_s, self._unreadable = idle_s, unreadable
        self._stopped = threading.Event()
        self._looked_s: float | None = None
        self._topic_id, self._offsets = "", dict[int, int]()
        self._coming: deque[Read | Restarted] = deque()
        self.skipped = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        """The next change; waits for it.

        Raises:
            StopIteration: `stop` was called, or nothing came for `idle_s`.
            WatchError: Kafka does not answer at the start, has no such topic, or refuses to be read.
        """
        began_s = self.began()
        while True:
            change = self.take()
            if change is not None:
                return change
            if not self.advance(began_s):
                raise StopIteration

    @property
    def position(self) -> str:
        """A text that continues behind the last change that was returned; keep it once that is dealt with."""
        if self._looked_s is None and self._position is not None:
            return str(self._position)
        return str(Position(self._topic_id, self._offsets))

    @property
    def pending(self) -> bool:
        """Whether `take` has something to look at."""
        return bool(self._coming)

    def stop(self) -> None:
        """Ends the iteration within a second or so; what was read and not returned is behind the position."""
        self._stopped.set()

    def close(self) -> None:
        """Ends the iteration and closes the connections."""
        self._stopped.set()
        self._topic.close()

    def began(self) -> float:
        """Connects, if it is not yet; the time (monotonic) from which `idle_s` counts.

        Raises:
            WatchError: Kafka does not answer, or has no such topic.
        """
        if self._looked_s is None and not self._stopped.is_set():
            self._start()
        return monotonic()

    def take(self) -> Change | None:
        """The next change that was read already."""
        while self._coming and not self._stopped.is_set():
            coming = self._coming.popleft()
            if isinstance(coming, Restarted):
                return coming
            self._offsets[coming.partition] = coming.offset + 1
            if coming.unreadable:
                self._skip(coming, coming.unreadable)
                continue
            try:
                return change_of(coming.key, coming.value, coming.headers, coming.written_ms)
            except ValueError as error:
                self._skip(coming, str(error))
        return None

    def _skip(self, read: "Read", why: str) -> None:
        self.skipped += 1
        self._unreadable(f"{self._name}/{read.partition}/{read.offset}: {why}")

    def advance(self, began_s: float) -> bool:
        """Reads more, after a short wait nothing; False at the end of the iteration.

        Raises:
            WatchError: Kafka refuses to be read.
        """
        if self._stopped.is_set():
            return False
        self._coming += self._topic.read()
        if self._coming:
            return True
        if self._looked_s is None or monotonic() - self._looked_s >= _LOOK_S:
            self._look()
        if self._idle_s is None or self._coming:
            return True
        return monotonic() - began_s < self._idle_s + (0 if self._topic.caught_up else _CATCH_UP_S)

    def _start(self) -> None:
        described = self._topic.describe(patiently=True)
        if described is None or not described.partitions:
            raise WatchError(f"{self._where}: there is none, or this user may not see it")
        held = self._position
        if held is not None and held.topic_id and described.topic_id not in {"", held.topic_id}:
            self._restart(described)
        else:
            self._topic_id = described.topic_id
            self._offsets = dict.fromkeys(described.partitions, 0) | (dict(held.offsets) if held else {})
            self._offsets = {each: self._offsets[each] for each in described.partitions}
            self._topic.start(self._offsets)
        self._looked_s = monotonic()

    def _restart(self, described: "Described") -> None:
        self._topic_id, self._offsets = described.topic_id, dict.fromkeys(described.partitions, 0)
        self._coming.clear()
        self._coming.append(Restarted(f"topic {self._name} was deleted and made anew"))
        self._topic.start(self._offsets)

    def _look(self) -> None:
        described = self._topic.describe()
        self._looked_s = monotonic()
        if described is None or not described.partitions:
            return
        if self._topic_id and described.topic_id not in {"", self._topic_id}:
            self._restart(described)
        elif added := set(described.partitions) - self._offsets.keys():
            self._offsets |= dict.fromkeys(added, 0)
            self._topic.add(added)


class AsyncWatch(AsyncIterator[Change]):
    """As `Watch`, with `async with` and `async for`; it reads in a thread. A task that waits may be cancelled."""

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        position: str | None = None,
        topic: str = "photo-tags",
        idle_s: float | None = None,
        properties: Properties | None = None,
        unreadable: Callable[[str], object] = str,
    ) -> None:
        self._watch = Watch(
            bootstrap_servers,
            position=position,
            topic=topic,
            idle_s=idle_s,
            properties=properties,
            unreadable=unreadable,
        )
        self._reading: asyncio.Future[bool] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        """As `Watch.__next__`.

        Raises:
            StopAsyncIteration: where that raises StopIteration.
        """
        while (change := None if self._reading else self._watch.take()) is None:
            if self._reading is None:
                self._reading = asyncio.ensure_future(asyncio.to_thread(self._read))
            # One that is cancelled leaves the reading to the next one: what it finds is not lost.
            try:
                more = await asyncio.shield(self._reading)
            finally:
                if self._reading.done():
                    self._reading = None
            if not more:
                raise StopAsyncIteration
        return change

    @property
    def position(self) -> str:
        """As `Watch.position`."""
        return self._watch.position

    @property
    def skipped(self) -> int:
        """As `Watch.skipped`."""
        return self._watch.skipped

    def stop(self) -> None:
        """As `Watch.stop`."""
        self._watch.stop()

    async def aclose(self) -> None:
        """As `Watch.close`."""
        self._watch.stop()
        if self._reading is not None:
            await asyncio.wait([self._reading])
        await asyncio.to_thread(self._watch.close)

    def _read(self) -> bool:
        """Reads until there is something to take; False at the end."""
        began_s = self._watch.began()
        while self._watch.advance(began_s):
            if self._watch.pending:
                return True
        return False
