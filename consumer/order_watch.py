"""Notices events that nothing keeps in order: Kafka by their key, or the version of their tags.

They are processed as all others: what is noted may be meant, and a photo with a chance order is better than none.
"""

from collections import OrderedDict
from time import monotonic
from typing import Final, Literal

from consumer.events import Deletion, Event, PhotoUploaded, Record, Tags, milliseconds
from consumer.telemetry import Log, Metrics
from consumer.versions import content_revision, is_of_a_time

Reason = Literal["no_key", "other_key", "same_version", "revision_and_time"]

#: How many photos are remembered; an entry takes some 300 bytes.
_REMEMBERED: Final = 10_000
#: A line of each reason is logged at most so often: a sender makes the same mistake with all of its events.
_LOG_S: Final = 60.0
_REMEDY: Final = "it has no effect; revisions have to be higher than that, or left out"


class OrderWatch:
    """Counts such events, and logs one of each reason a minute. For one thread."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics
        self._logged_s: dict[Reason, float] = {}
        #: The content number of the last uploads, and the hash of where they are: a URI may have 4,096 characters.
        self._uploads: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def read(self, record: Record, event: Event) -> None:
        """An event was read."""
        if record.key is None:
            self._note("no_key", record, event.photo_id, "the record has no key: Kafka keeps no order among its events")
        elif record.key != event.photo_id.encode():
            self._note("other_key", record, event.photo_id, "the key of the record is not the photo id")
        if isinstance(event, PhotoUploaded):
            self._compare(record, event)

    def superseded(self, record: Record, decision: Tags | Deletion, in_force: Tags | Deletion | None) -> None:
        """A decision has no effect, for something newer is in force."""
        if in_force is not None and is_of_a_time(in_force.version) and not is_of_a_time(decision.version):
            ours, theirs = (int(each.version.partition(".")[0]) for each in (decision, in_force))
            detail = f"revision {ours} is below {theirs}, the time in milliseconds of an event without one: {_REMEDY}"
            self._note("revision_and_time", record, decision.photo_id, detail)

    def _compare(self, record: Record, event: PhotoUploaded) -> None:
        # A signature is in the query, and is another one each time.
        content = content_revision(event.revision, milliseconds(event.uploaded_at))
        uri = hash(event.uri.partition("?")[0])
        before = self._uploads.pop(event.photo_id, (content, uri))
        self._uploads[event.photo_id] = content, uri
        if len(self._uploads) > _REMEMBERED:
            self._uploads.popitem(last=False)
        if before[0] == content and before[1] != uri:
            name = "uploaded_at" if event.revision is None else "revision"
            self._note("same_version", record, event.photo_id, f"another URI came with the same {name}")

    def _note(self, reason: Reason, record: Record, photo_id: str, detail: str) -> None:
        self._metrics.disordered.labels(reason).inc()
        if monotonic() - self._logged_s.get(reason, -_LOG_S) < _LOG_S:
            return
        self._logged_s[reason] = monotonic()
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        self._log.warning("event.disordered", photo_id=photo_id, **place, reason=reason, detail=detail)
