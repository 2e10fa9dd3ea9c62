"""Topics read outside any group, without commits: from given offsets on, or up to their present ends."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import pairwise
from time import monotonic, sleep
from typing import Final

from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition

from consumer.errors import DependencyDown
from consumer.events import Record, milliseconds
from consumer.kafka import clients
from consumer.kafka.clients import coordinates, next_messages, record_of
from consumer.kafka.offsets import Partition
from consumer.kafka.unreadable import Unreadable, unreadable_record

_BATCH: Final = 500
_POLL_S: Final = 0.2
_ANSWER_TIMEOUT_S: Final = 10.0
#: Records that are read in vain rather than to begin anew at a later offset, which takes a round trip.
_GAP: Final = 20
#: librdkafka reconnects by itself; a scan that gets no record for so long before the end fails.
_SILENCE_S: Final = 30.0

#: Trying again does not help; a consumer's error does not say so in its own `retriable()`.
_PERMANENT: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._FATAL,  # noqa: SLF001 - librdkafka's local errors have no public name
    }
)
#: Errors while the leader of a partition is elected, as after its topic was created, or not known to this client yet.
_ELECTING: Final = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - as above
    }
)


class TopicReader(AbstractContextManager["TopicReader"]):
    """Reads partitions of existing topics from given offsets on, past their ends. Blocking, for one thread.

    Attributes:
        partitions: Every partition of the topics at construction, and those that `added` found.
        positions: Of each partition that is read, the offset below which everything was read or does not exist.
        last_error: The last error from which librdkafka recovers by itself; empty where there was none.
    """

    def __init__(self, bootstrap_servers: str, extra: clients.Properties, topics: Iterable[str]) -> None:
        """Connects; `start` begins the reading.

        Raises:
            DependencyDown: the cluster does not answer, or one of the topics is missing.
        """
        self._servers, self._topics = bootstrap_servers, frozenset(topics)
        with clients.kafka_failures():
            self._consumer = clients.reader_client(bootstrap_servers, extra)
        try:
            self.partitions = clients.require_topics(self._consumer, bootstrap_servers, self._topics)
        except DependencyDown:
            self.close()
            raise
        self.positions: dict[Partition, int] = {}
        self.last_error = ""
        self._unreadable = Unreadable()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._consumer.close()

    def ranges(self, since: datetime | None = None) -> dict[Partition, range]:
        """Of each partition, the offsets from the first record written at or after `since` to the end it has now.

        A log is not in the order of its records' times: later ones in a range may have been written before `since`,
        none below it was written after. For the same reason there is no offset that divides a log at a time of its
        end: of two records of one hour, one may follow a record that a fast clock dated next year.

        Raises:
            DependencyDown: the cluster does not answer.
        """
        with clients.kafka_failures():
            held = {partition: self._held(partition) for partition in self.partitions}
            if since is None:
                return {partition: range(*bounds) for partition, bounds in held.items()}
            ends = {partition: end for partition, (_, end) in held.items()}
            # Kafka takes negative times for other questions.
            starts = self._offsets_at(max(0, milliseconds(since)), ends)
        return {partition: range(starts[partition], ends[partition]) for partition in self.partitions}

    def added(self) -> dict[Partition, range]:
        """The partitions that the topics got since they were last looked at, with the offsets that each has now.

        Raises:
            DependencyDown: the cluster does not answer, or one of the topics is missing.
        """
        known, self.partitions = self.partitions, clients.require_topics(self._consumer, self._servers, self._topics)
        with clients.kafka_failures():
            return {each: range(*self._held(each)) for each in self.partitions if each not in known}

    def start(self, starts: Mapping[Partition, int]) -> None:
        """Reads these partitions from these offsets on; where retention removed them, from the first record left."""
        self.positions.update(starts)
        with clients.kafka_failures():
            self._consumer.incremental_assign(
                [TopicPartition(*partition, start) for partition, start in starts.items()]
            )

    def stop(self, partition: Partition) -> None:
        """Stops reading a partition."""
        with clients.kafka_failures():
            self._consumer.incremental_unassign([TopicPartition(*partition)])

    def read(self, wait_s: float) -> list[Record]:
        """The next records, 500 at most; none where none came within `wait_s`; one that cannot be read is among them.

        Raises:
            DependencyDown: Kafka refuses them, or a topic was deleted.
        """
        records = []
        with clients.kafka_failures():
            messages = next_messages(self._consumer, wait_s, _BATCH)
        self._unreadable.turn += 1
        for message in messages:
            topic, partition, offset = coordinates(message)
            error = message.error()
            if error is None:
                records.append(record_of(message))
                self._advance((topic, partition), offset + 1)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - as above
                self._advance((topic, partition), offset)
            elif error.fatal() or error.code() in _PERMANENT:
                raise DependencyDown("kafka", clients.explain(error, f"{topic}[{partition}]"))
            else:
                self.last_error = clients.explain(error)
                records += self._passed_over((topic, partition), error)
        return records

    def _passed_over(self, partition: Partition, error: KafkaError) -> list[Record]:
        """The next record of a partition, if it can never be read; what follows is read then."""
        offset = self.positions.get(partition)
        if offset is None or not self._unreadable.gives_up(partition, offset, error):
            return []
        with clients.kafka_failures():
            self._consumer.seek(TopicPartition(*partition, offset + 1))
        self._advance(partition, offset + 1)
        return [unreadable_record(partition, offset, 0, clients.explain(error))]

    def record_at(self, partition: Partition, offset: int) -> Record | None:
        """The record at one offset; None where there is none (any more).

        Raises:
            DependencyDown: Kafka does not answer in time, or refuses it.
        """
        return next(iter(self.records_at(partition, [offset])), None)

    def records_at(self, partition: Partition, offsets: Iterable[int]) -> list[Record]:
        """The records at some offsets, in their order; what is not there (any more) is left out.

        Raises:
            DependencyDown: as `record_at`.
        """
        if partition not in self.partitions:
            return []
        with clients.kafka_failures():
            low, high = self._held(partition)
        wanted = sorted({offset for offset in offsets if low <= offset < high})
        ends = [place for place in range(1, len(wanted)) if wanted[place] - wanted[place - 1] > _GAP]
        runs = pairwise([0, *ends, len(wanted)]) if wanted else ()
        return [record for start, end in runs for record in self._through(partition, wanted[start:end])]

    def _through(self, partition: Partition, wanted: Sequence[int]) -> list[Record]:
        """The records at some offsets, read from the first to the last.

        Raises:
            DependencyDown: Kafka does not answer in time, or refuses them.
        """
        (topic, number), offsets = partition, frozenset(wanted)
        self.positions[partition] = position = wanted[0]
        self.start({partition: position})
        deadline, found = monotonic() + _ANSWER_TIMEOUT_S, list[Record]()
        # Past an offset without a record: compaction removed it, or a marker of a transaction is there.
        while self.positions[partition] <= wanted[-1] and monotonic() < deadline:
            found += [record for record in self.read(_POLL_S) if record.offset in offsets]
            if self.positions[partition] > position:
                position, deadline = self.positions[partition], monotonic() + _ANSWER_TIMEOUT_S
        self.stop(partition)
        if self.positions[partition] <= wanted[-1]:
            raise DependencyDown("kafka", f"{topic}[{number}]@{position}: no answer in {_ANSWER_TIMEOUT_S:g} s")
        return found

    def _held(self, partition: Partition) -> tuple[int, int]:
        """The first and the next offset of a partition; waits for a leader that is being elected.

        Raises:
            KafkaException: there was no answer in time.
        """
        deadline = monotonic() + _ANSWER_TIMEOUT_S
        while True:
            try:
                left_s = max(_POLL_S, deadline - monotonic())
                return self._consumer.get_watermark_offsets(TopicPartition(*partition), timeout=left_s)
            except KafkaException as error:
                if error.args[0].code() not in _ELECTING or monotonic() > deadline:
                    raise
            sleep(_POLL_S)

    def _advance(self, partition: Partition, position: int) -> None:
        self.positions[partition] = max(position, self.positions.get(partition, 0))

    def _offsets_at(self, time_ms: int, ends: Mapping[Partition, int]) -> dict[Partition, int]:
        """The first offset of each partition at or after a time; its end where there is none before that.

        Raises:
            KafkaException: there is no answer for a partition.
        """
        asked = [TopicPartition(*partition, time_ms) for partition in self.partitions]
        offsets = dict(ends)
        for answer in self._consumer.offsets_for_times(asked, timeout=_ANSWER_TIMEOUT_S):
            partition = (answer.topic, answer.partition)
            if answer.error is not None:
                raise KafkaException(answer.error)
            if answer.offset not in {-1, OFFSET_END}:
                offsets[partition] = min(answer.offset, ends[partition])
        return offsets


class Scan(AbstractContextManager["Scan"]):
    """One topic from its beginning, or from a time on, to the end that it has at construction.

    Later records are left out. Compaction may have removed the records before the end, or a transaction marker may be
    there; retention may move the beginning while the topic is read. Blocking, for one thread; a context manager.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        extra: clients.Properties,
        topic: str,
        *,
        since: datetime | None = None,
        ranges: Mapping[Partition, range] | None = None,
        silence_s: float = _SILENCE_S,
    ) -> None:
        """Connects and fixes the ends.

        With `since`, only records written at or after it are read; with `ranges`, those offsets alone. `silence_s` is
        how long `read` may wait in all without progress.

        Raises:
            DependencyDown: the cluster does not answer, or the topic is missing.
        """
        self._reader = TopicReader(bootstrap_servers, extra, [topic])
        self._silence_s, self._waited_s = silence_s, 0.0
        try:
            wanted = self._reader.ranges(since) if ranges is None else ranges
            ranges = {partition: offsets for partition, offsets in wanted.items() if offsets}
            self._reader.start({partition: offsets.start for partition, offsets in ranges.items()})
        except DependencyDown:
            self.close()
            raise
        #: The end of each unfinished partition.
        self._ends = {partition: offsets.stop for partition, offsets in ranges.items()}
        #: Offsets from the beginning to the end; compaction leaves fewer records.
        self.total = sum(map(len, ranges.values()))

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[list[Record]]:
        """Reads to the end.

        Yields:
            What each `read` returned.
        """
        while not self.finished:
            yield self.read()

    @property
    def done(self) -> int:
        """How many of the `total` offsets were passed; never falls."""
        return self.total - sum(end - self._reader.positions[partition] for partition, end in self._ends.items())

    @property
    def finished(self) -> bool:
        """Whether every partition was read to its end."""
        return not self._ends

    def close(self) -> None:
        """Closes the connections."""
        self._reader.close()

    def read(self) -> list[Record]:
        """The next records, 500 at most or none after a short wait; those of a partition are in order.

        Raises:
            DependencyDown: Kafka refuses them, or none came for `silence_s`; the message names an unfinished partition.
        """
        began_s, done = monotonic(), self.done
        records = self._reader.read(_POLL_S)
        wanted = [record for record in records if record.offset < self._ends.get((record.topic, record.partition), 0)]
        # For a while after a change of leader, a partition may end before the end that was fixed at the start.
        for partition in [each for each, end in self._ends.items() if self._reader.positions[each] >= end]:
            del self._ends[partition]
            self._reader.stop(partition)
        # Only time in this method counts: the caller may be busy for longer than that.
        self._waited_s = 0.0 if self.done > done else self._waited_s + monotonic() - began_s
        if self._ends and self._waited_s > self._silence_s:
            raise DependencyDown("kafka", self._silence())
        return wanted

    def _silence(self) -> str:
        (topic, partition), end = min(self._ends.items())
        error = f"; last error: {self._reader.last_error}" if self._reader.last_error else ""
        position = self._reader.positions[topic, partition]
        return f"{topic}[{partition}]@{position}: no record for {self._silence_s:g} s before the end at {end}{error}"
