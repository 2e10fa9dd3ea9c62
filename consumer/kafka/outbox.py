"""Records on their way to the brokers: each is awaited until it is acknowledged, refused for good, or has to wait.

The brokers refuse a whole batch for one record of it: for the size of the batch, or because one has no key where the
topic is compacted. So a record counts as refused only once it was refused in a batch of its own.
"""

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.errors import DependencyDown, ProducerFailed, RecordRefused
from consumer.events import Headers, Source
from consumer.kafka.accumulator import Accumulator
from consumer.kafka.clients import (
    FOR_THE_RECORD,
    Properties,
    answer_of,
    await_answers,
    explain,
    kafka_failures,
)
from consumer.kafka.sender import NewRecord
from consumer.telemetry import Log

_Answer = Source | RecordRefused | DependencyDown

_POLL_S: Final = 0.1
_FULL_QUEUE_WAIT_S: Final = 0.05
_FLUSH_S: Final = 5.0
#: A producer is rebuilt at most so often within the period: what still fails then is not a matter of one producer.
_MOST_REBUILDS: Final = 10
_REBUILD_PERIOD_S: Final = 60.0
#: Properties of a producer whose every record is a batch of its own.
_ALONE: Final[Properties] = {"batch.num.messages": 1, "linger.ms": 0}
#: What the brokers answer for the sake of a topic: records of the others may be taken as always.
_FOR_THE_TOPIC: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.INVALID_REQUIRED_ACKS,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - librdkafka's local errors have no public name
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - as above
        # The connection of a leader goes with the last topic that it leads.
        KafkaError._DESTROY,  # noqa: SLF001 - as above
    }
)


class Connect(Protocol):
    """Makes a producer with further properties."""

    def __call__(self, special: Properties, /) -> Producer:
        """A new producer."""


class Outbox:
    """Sends records in batches, and those of a refused batch one by one. A context manager in a running event loop.

    `failed` is called, from any thread, when no producer can be kept running: the service has to end.
    """

    def __init__(self, connect: Connect, *, failed: Callable[[ProducerFailed], None], log: Log) -> None:
        self._connect = connect
        self._failed = failed
        self._log = log
        self._batched = Lane(lambda: connect({}), failed=failed, log=log)
        #: Made when a batch is refused for the first time.
        self._single: Lane | None = None

    @property
    def alive(self) -> bool:
        """Whether acknowledgements are served."""
        return all(lane.alive for lane in self._lanes)

    @property
    def producer(self) -> Producer:
        """The producer in use, for questions to the cluster."""
        return self._batched.producer

    def start(self) -> None:
        """Starts to serve acknowledgements."""
        self._batched.start()

    def close(self) -> None:
        """Sends what was taken, within a limit of time."""
        for lane in self._lanes:
            lane.close()

    async def send(self, record: NewRecord) -> Source:
        """Returns where the record is stored, once the brokers have acknowledged it.

        Raises:
            RecordRefused: they refuse this record for good, in a batch of its own too.
            DependencyDown: they did not acknowledge it, which may be otherwise later.
        """
        try:
            return await self._batched.send(record)
        except RecordRefused:
            return await self._alone().send(record)

    def _alone(self) -> "Lane":
        """The producer of single records.

        Raises:
            DependencyDown: it cannot be made now, for want of threads or descriptors.
        """
        if self._single is None:
            with kafka_failures():
                self._single = Lane(lambda: self._connect(_ALONE), failed=self._failed, log=self._log)
            self._single.start()
        return self._single

    @property
    def _lanes(self) -> tuple["Lane", ...]:
        return (self._batched,) if self._single is None else (self._batched, self._single)


class Lane:
    """One producer at a time, and the thread that serves its acknowledgements.

    A fatal error ends an idempotent producer: it takes nothing any more, and a new one is made. What the old one still
    held goes back to the callers, who send it again. What was under way keeps its answer, so that it is not stored
    behind a newer record of its photo.
    """

    def __init__(self, connect: Callable[[], Producer], *, failed: Callable[[ProducerFailed], None], log: Log) -> None:
        self._connect = connect
        self._failed = failed
        self._log = log
        self._loop = asyncio.get_running_loop()
        #: Held while a record is handed over or the producer is changed, so that none goes to one that is given up.
        self._changing = threading.Lock()
        #: By topic.
        self._accumulators: defaultdict[str, Accumulator] = defaultdict(Accumulator)
        self._answers: deque[tuple[Accumulator, asyncio.Future[Source], _Answer]] = deque()
        #: The loop is about to look at the answers.
        self._woken = False
        self._rebuilt_s: deque[float] = deque(maxlen=_MOST_REBUILDS)
        #: Former producers with records under way.
        self._broken: list[Producer] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-deliveries", daemon=True)
        self.producer = connect()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread, and waits a while for the acknowledgements that are left."""
        self._closing.set()
        self._thread.join()
        await_answers(self.producer, _FLUSH_S)

    async def send(self, record: NewRecord) -> Source:
        """As `Outbox.send`, once.

        Raises:
            RecordRefused: the brokers refuse it for good, or another one of its batch.
            DependencyDown: as `Outbox.send`.
        """
        accumulator = self._accumulators[record.topic]
        await accumulator.enter()
        future: asyncio.Future[Source] = self._loop.create_future()

        def delivered(error: KafkaError | None, message: Message) -> None:
            answer = answer_of(error, message)
            meaning = answer if isinstance(answer, Source) else _meaning(answer, record.topic)
            self._answers.append((accumulator, future, meaning))
            if not self._woken:
                self._woken = True
                self._loop.call_soon_threadsafe(self._resolve)

        try:
            await self._produce(record, delivered)
        except BaseException:
            accumulator.leave()
            raise
        return await future

    async def _produce(self, record: NewRecord, delivered: Callable[[KafkaError | None, Message], None]) -> None:
        """Hands a record over, as soon as librdkafka's queue has room.

        Raises:
            RecordRefused: as `send`.
            DependencyDown: as `send`.
        """
        while True:
            try:
                with self._changing:
                    self.producer.produce(
                        record.topic,
                        value=record.value,
                        key=record.key,
                        headers=_named(record.headers),
                        partition=record.partition,
                        on_delivery=delivered,
                    )
            except BufferError:
                await asyncio.sleep(_FULL_QUEUE_WAIT_S)
            except KafkaException as error:
                failure = _meaning(error.args[0], record.topic)
                raise failure from None
            else:
                return

    def _resolve(self) -> None:
        """Hands the answers so far to those who wait: what is acknowledged together wakes the loop once."""
        self._woken = False
        while self._answers:
            accumulator, future, answer = self._answers.popleft()
            accumulator.leave()
            if future.done():
                continue
            if isinstance(answer, Source):
                future.set_result(answer)
            else:
                future.set_exception(answer)

    def _run(self) -> None:
        """Serves acknowledgements; an end that nobody asked for ends the service, which would wait for ever."""
        failure = "the thread of the producer ended by a bug; its traceback is on standard error"
        try:
            while not self._closing.is_set():
                try:
                    self.producer.poll(_POLL_S)
                except KafkaException as fatal:
                    self._rebuild(fatal.args[0])
                self._serve_broken()
        except ProducerFailed as hopeless:
            failure = str(hopeless)
            self.producer.purge(in_flight=False)
        finally:
            if not self._closing.is_set():
                self._failed(ProducerFailed(failure))

    def _rebuild(self, error: KafkaError) -> None:
        """Replaces the producer after a fatal error.

        Raises:
            ProducerFailed: that happens too often.
        """
        now = monotonic()
        if len(self._rebuilt_s) == _MOST_REBUILDS and now - self._rebuilt_s[0] < _REBUILD_PERIOD_S:
            raise ProducerFailed(f"Kafka producer: {_MOST_REBUILDS} new ones failed too: {explain(error)}")
        self._rebuilt_s.append(now)
        with self._changing:
            broken, self.producer = self.producer, self._connect()
        self._broken.append(broken)
        self._log.warning("producer.rebuilt", detail=explain(error), unacknowledged=len(broken))

    def _serve_broken(self) -> None:
        for broken in self._broken:
            # What failed on its way is queued again, where it would wait for its time-out.
            broken.purge(in_flight=False)
            with suppress(KafkaException):
                broken.poll(0)
        self._broken = [broken for broken in self._broken if len(broken)]


def _meaning(error: KafkaError, topic: str) -> RecordRefused | DependencyDown:
    text = f"topic {topic}: {explain(error)}"
    if error.code() in FOR_THE_RECORD:
        return RecordRefused(text)
    return DependencyDown("kafka", text, part=f"topic {topic}" if error.code() in _FOR_THE_TOPIC else "")


def _named(headers: Headers) -> list[tuple[str, str | bytes | None]]:
    """The headers with names that can be encoded: one that was not UTF-8 is written with escapes."""
    return [
        (name if name.isascii() else name.encode(errors="backslashreplace").decode(), value) for name, value in headers
    ]
