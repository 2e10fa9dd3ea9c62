"""The runs in Kafka: their definitions and states, their positions, and their answers."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from consumer.errors import NotFound, Refused, TopicMissing
from consumer.events import Record, format_time
from consumer.kafka import clients, starts, topics
from consumer.kafka.offsets import Partition
from consumer.kafka.scan import Scan, TopicReader
from consumer.kafka.sender import NewRecord, Sender
from consumer.runs import answers, definition
from consumer.runs.answers import Answer
from consumer.runs.definition import WORKED_ON, Run, State
from consumer.runs.figures import WorkSpan
from consumer.service import release_log
from consumer.settings.sections import KafkaSettings


def read_all(kafka: KafkaSettings) -> dict[str, Run]:
    """The runs by id, the oldest first; what is no run is passed over.

    Raises:
        DependencyDown: Kafka does not answer, or there is no such topic.
    """
    found: dict[str, Run] = {}
    with Scan(kafka.bootstrap_servers, kafka.extra, kafka.runs_topic) as scan:
        for record in (record for records in scan for record in records):
            key = (record.key or b"").decode(errors="replace")
            if record.value is None:
                found.pop(key, None)
                continue
            try:
                run = definition.decode(record.value)
            except ValueError:
                continue
            if run.run_id == key:
                found[key] = run
    return dict(sorted(found.items(), key=lambda item: item[1].at))


def read(kafka: KafkaSettings, run_id: str) -> Run:
    """One run.

    Raises:
        NotFound: there is none of this id.
        DependencyDown: as `read_all`.
    """
    runs = read_all(kafka)
    if run_id not in runs:
        there = f"there are {', '.join(list(runs)[-5:])}" if runs else "there is none yet: photo-tagger runs start"
        raise NotFound(f"no run {run_id}; {there}")
    return runs[run_id]


def save(kafka: KafkaSettings, run: Run) -> None:
    """Writes the state of a run.

    Raises:
        DependencyDown: Kafka does not take it.
    """
    _send(kafka, NewRecord(kafka.runs_topic, run.run_id.encode(), definition.encode(run)))


def forget(kafka: KafkaSettings, run: Run) -> None:
    """Deletes a run, its answers and its positions; again does nothing.

    Raises:
        DependencyDown: Kafka does not answer, or a worker is still at it.
    """
    answers_topic = kafka.topics.answers(run.run_id)
    topics.delete_run(kafka.bootstrap_servers, answers_topic, run.group(kafka.group_id), kafka.extra)
    _send(kafka, NewRecord(kafka.runs_topic, run.run_id.encode(), None))


def moved_to(run: Run, state: State, what: str, **changes: object) -> Run:
    """The run in another state, which its history says when, by whom and why."""
    line = f"{format_time(datetime.now(UTC))} {release_log.author()}: {what}"
    moved: Run = replace(run, state=state, history=(*run.history, line), **changes)  # type: ignore[arg-type]
    return moved


def complete(kafka: KafkaSettings, run: Run) -> Run:
    """Notes that nothing of a run is left to judge, unless something else became of it; the run as it is then.

    Its positions tell that only for as long as Kafka keeps them, seven days unless it is told otherwise.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    now = read_all(kafka).get(run.run_id)
    if now is None or now.state not in WORKED_ON:
        return now or run
    now = moved_to(now, "complete", "complete")
    save(kafka, now)
    return now


def forget_replays(kafka: KafkaSettings, before: datetime) -> None:
    """Deletes the ended replays that were started before a time: their positions are gone, too, or go by themselves.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    for run in read_all(kafka).values():
        if run.is_ended_replay and run.at < before:
            _send(kafka, NewRecord(kafka.runs_topic, run.run_id.encode(), None))


def require_open(run: Run) -> None:
    """Refuses a run that has ended.

    Raises:
        Refused: it was cancelled, promoted or rolled back.
    """
    if run.state not in {*WORKED_ON, "complete"}:
        raise Refused(f"run {run.run_id} is {run.state}: start another one")


def done(kafka: KafkaSettings, run: Run) -> int:
    """How many offsets of its ranges are behind the positions of its group.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    if run.state == "complete":
        return run.total
    at = positions(kafka, run.group(kafka.group_id))
    return sum(_done(at.get((run.topic, span.partition), span.start), span) for span in run.spans)


def positions(kafka: KafkaSettings, group_id: str) -> dict[Partition, int]:
    """The committed positions of a group; none where there is no such group.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    with clients.kafka_failures():
        return starts.positions_of(clients.admin_client(kafka.bootstrap_servers, kafka.extra), group_id)


def _done(position: int, span: definition.Span) -> int:
    return max(0, (position if span.stop is None else min(position, span.stop)) - span.start)


def count(kafka: KafkaSettings, run: Run) -> tuple[int, int]:
    """How many photos of a run are judged so far, and how many could not be; by its answers.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    judged = Counter(answer.after is not None for answer in Answers(kafka, run))
    return judged[True], judged[False]


def require_answers(kafka: KafkaSettings, run: Run) -> None:
    """Checks that the topic of a run's answers is there.

    Raises:
        NotFound: it is not.
        DependencyDown: Kafka does not answer.
    """
    topic = kafka.topics.answers(run.run_id)
    with _answers_needed(topic), TopicReader(kafka.bootstrap_servers, kafka.extra, [topic]):
        pass


@contextmanager
def _answers_needed(topic: str) -> Iterator[None]:
    try:
        yield
    except TopicMissing:
        gone = f"its answers are gone: there is no topic {topic}, or this user may not see it"
        raise NotFound(f"{gone}; cancel and delete the run, and start another") from None


class Answers:
    """The last answer to each photo of a run, read from its topic as it is now; memory is 16 bytes an answer.

    Compaction leaves older answers for a while, and a worker that was killed repeats some: an answer counts if no later
    one has its key. That is found by the hashes of the keys, which a first pass reads.

    Attributes:
        span: The time in which they were written, once they were read.
    """

    def __init__(self, kafka: KafkaSettings, run: Run, ranges: Mapping[Partition, range] | None = None) -> None:
        """Those in ranges of some partitions, or in all."""
        self._kafka = kafka
        self._topic = kafka.topics.answers(run.run_id)
        self._ranges = ranges
        self.span = WorkSpan()

    def __iter__(self) -> Iterator[Answer]:
        """Reads the topic twice; what is no answer is passed over.

        Yields:
            The answers, in the order of each partition.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        last, ends = self._last()
        for record in self._records():
            partition = (record.topic, record.partition)
            if record.offset >= ends.get(partition, 0) or not _is_in(last[partition], record.offset):
                continue
            try:
                answer = answers.decode(record.value or b"")
            except ValueError:
                continue
            yield answer

    def _last(self) -> tuple[dict[Partition, npt.NDArray[np.int64]], dict[Partition, int]]:
        """The offset of the last record of each key, by partition, in order; and the end of each partition."""
        self.span = WorkSpan()
        keys: dict[Partition, array[int]] = {}
        offsets: dict[Partition, array[int]] = {}
        for record in self._records():
            partition = (record.topic, record.partition)
            self.span.add(record.timestamp_ms)
            keys.setdefault(partition, array("q")).append(hash(record.key))
            offsets.setdefault(partition, array("q")).append(record.offset)
        lasts = {partition: _last_of(keys[partition], offsets[partition]) for partition in keys}
        return lasts, {partition: max(each) + 1 for partition, each in offsets.items()}

    def _records(self) -> Iterator[Record]:
        with (
            _answers_needed(self._topic),
            Scan(self._kafka.bootstrap_servers, self._kafka.extra, self._topic, ranges=self._ranges) as scan,
        ):
            for records in scan:
                yield from records


def _last_of(keys: "array[int]", offsets: "array[int]") -> npt.NDArray[np.int64]:
    """The offsets that are the last of their key, in order."""
    hashes, places = np.frombuffer(keys, np.int64), np.frombuffer(offsets, np.int64)
    # From the end: the first of each key is its last.
    _, first = np.unique(hashes[::-1], return_index=True)
    found: npt.NDArray[np.int64] = np.sort(places[::-1][first])
    return found


def _is_in(offsets: npt.NDArray[np.int64], offset: int) -> bool:
    place = int(np.searchsorted(offsets, offset))
    return place < len(offsets) and int(offsets[place]) == offset


def _send(kafka: KafkaSettings, record: NewRecord) -> None:
    Sender(kafka.bootstrap_servers, kafka.extra, [record.topic]).send([record])
