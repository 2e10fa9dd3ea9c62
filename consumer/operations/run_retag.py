"""Work on a run for thresholds alone: decides anew on the probabilities of results, which are the tags in force."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from consumer import events, tagging, versions
from consumer.events import Record, Tags
from consumer.kafka import clients, starts
from consumer.kafka.offsets import Partition
from consumer.kafka.scan import Scan
from consumer.kafka.sender import NewRecord, Sender
from consumer.operations import run_log
from consumer.operations.run_progress import Progress, Told, Worked
from consumer.operations.runs import times_ms
from consumer.runs import answers
from consumer.runs.answers import Answer
from consumer.runs.definition import WORKED_ON, Run
from consumer.settings import Settings

_LOOK_S: Final = 1.0
_SEND_S: Final = 60.0


def retag(settings: Settings, run: Run, told: Told, stopping: threading.Event) -> Worked:
    """Decides on the results in the run's ranges, from the positions of its group on. Blocking.

    Answers that were written are committed about once a second; one that is killed repeats those since. Several at once
    repeat each other's work, and their answers are the same.

    Raises:
        NotFound: the run was deleted meanwhile.
        DependencyDown: Kafka does not answer.
    """
    job = _Retag(settings, run, told)
    next_s = monotonic()
    for records, behind in job.results():
        if monotonic() >= next_s:
            job.commit()
            while (now := job.tell()).state == "paused" and not stopping.wait(_LOOK_S):
                pass
            if now.state not in WORKED_ON or stopping.is_set():
                # Another worker may have been done first.
                return Worked(now, complete=now.state == "complete", outcomes=job.outcomes)
            next_s = monotonic() + _LOOK_S
        job.decide(records, behind)
    job.finish()
    return Worked(run_log.complete(settings.kafka, job.tell()), complete=True, outcomes=job.outcomes)


class _Retag:
    """The work, and how far it is."""

    def __init__(self, settings: Settings, run: Run, told: Told) -> None:
        kafka = settings.kafka
        self.outcomes = {"tagged": 0, "skipped": 0}
        self._settings, self._run, self._told = settings, run, told
        self._group = run.group(kafka.group_id)
        self._topic = kafka.topics.answers(run.run_id)
        self._sender = Sender(kafka.bootstrap_servers, kafka.extra, [self._topic])
        self._ids = frozenset(run.selection.ids)
        at = run_log.positions(kafka, self._group)
        self._left = {key: range(max(each.start, at.get(key, 0)), each.stop) for key, each in run.ranges.items()}
        self._done = {key: each.start for key, each in self._left.items()}
        self._began_s, self._read = monotonic(), 0

    def results(self) -> Iterator[tuple[list[Record], dict[Partition, int]]]:
        """Reads what is left of the ranges of the run.

        Yields:
            Records that came at once and in time, and the offsets behind all that came.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        kafka, times = self._settings.kafka, times_ms(self._run)
        with Scan(kafka.bootstrap_servers, kafka.extra, self._run.topic, ranges=self._left) as scan:
            for records in scan:
                behind = {(record.topic, record.partition): record.offset + 1 for record in records}
                yield [each for each in records if times is None or each.timestamp_ms in times], behind

    def decide(self, records: list[Record], behind: dict[Partition, int]) -> None:
        """Writes the answers on some results.

        Raises:
            DependencyDown: Kafka does not take them.
        """
        # Of a photo with several results the last is in force.
        newest = {record.key: record for record in records}.values()
        top_k = self._settings.service.top_k
        decided = [answer for record in newest if (answer := _decided(self._run, self._ids, record, top_k))]
        self._sender.send(
            (NewRecord(self._topic, each.photo_id.encode(), answers.encode(each)) for each in decided),
            timeout_s=_SEND_S,
        )
        self.outcomes["tagged"] += len(decided)
        self.outcomes["skipped"] += len(records) - len(decided)
        self._read += len(records)
        self._done.update(behind)

    def finish(self) -> None:
        """Notes that nothing is left, also where compaction has removed the last results of a range.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        self._done = {key: max(self._done[key], each.stop) for key, each in self._left.items()}
        self.commit()

    def commit(self) -> None:
        """Commits how far the answers are written.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        kafka = self._settings.kafka
        with clients.kafka_failures():
            starts.commit_positions(clients.admin_client(kafka.bootstrap_servers, kafka.extra), self._group, self._done)

    def tell(self) -> Run:
        """Tells the progress; the run as it is now.

        Raises:
            NotFound: it was deleted.
            DependencyDown: Kafka does not answer.
        """
        left = sum(each.stop - min(each.stop, self._done[key]) for key, each in self._left.items())
        rate = round(self._read / max(monotonic() - self._began_s, 0.001), 1)
        self._told(Progress(self._run.total - left, self._run.total, rate, dict(self.outcomes)))
        return run_log.read(self._settings.kafka, self._run.run_id)


def meant(run: Run, ids: frozenset[str], result: Record) -> Tags | None:
    """The tags of a result that a run for thresholds is over; None for others.

    Those are a deletion, what is no result, and a result of other versions or without all probabilities.
    """
    try:
        before = events.decode_tags(result.value or b"")
    except ValueError:
        return None
    selection = run.selection
    known = before.models == run.candidate.models and len(before.probabilities) > len(before.brands)
    return before if known and selection.wants_id(before.photo_id, ids) and selection.wants(before) else None


def _decided(run: Run, ids: frozenset[str], result: Record, top_k: int) -> Answer | None:
    """The answer on a result: its probabilities under the candidate's thresholds; None for what the run is not over."""
    before = meant(run, ids, result)
    if before is None:
        return None
    after = _retagged(before, run, top_k)
    return Answer(
        photo_id=before.photo_id,
        uri=None,
        uploaded_at=None,
        content_rev=versions.content_in(before.version),
        source=before.source,
        before=before,
        after=after,
        reason=None,
        detail="",
        format=None,
        took_ms=0.0,
    )


def _retagged(before: Tags, run: Run, top_k: int) -> Tags:
    """The tags that the candidate's thresholds make of the published probabilities."""
    decision = run.candidate.decision
    return replace(
        before,
        quality=tagging.quality_of(before.quality.score, decision.good_threshold),
        brands=tagging.brands_of(before.probabilities, decision.brand_threshold, top_k),
        version=versions.under(before.version, 0),
        tagged_at=datetime.now(UTC).replace(microsecond=0),
    )
