"""What the path of a record is made of: its steps, what they are to be given, and the count of their attempts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from consumer import events
from consumer.budget import Budget, Permit
from consumer.contract import Views
from consumer.errors import Reason, Retryable
from consumer.events import Deletion, Photo, PhotoDeleted, PhotoUploaded, Record, Scores, Source, Tags
from consumer.kafka.headers import Delivery, Wait
from consumer.redis.score_cache import Judge, judged
from consumer.redis.store import Written
from consumer.resilience import Deferral

T = TypeVar("T")
U = TypeVar("U")


class TagStore(Protocol):
    """Where tags are written, by version."""

    async def write(self, decision: Tags | Deletion) -> Written:
        """Writes tags or a tombstone unless the same or a newer version is there."""

    async def newer(self, decision: Tags | Deletion) -> Tags | Deletion | None:
        """What is there, if that is newer than a decision."""


class ResultPublisher(Protocol):
    """Where outcomes are published; each call returns when the brokers have acknowledged."""

    async def result(self, decision: Tags | Deletion, delivery: Delivery) -> None:
        """Publishes tags, or that a photo has none any more; `RecordRefused` where Kafka takes them in no form."""

    async def dead_letter(self, delivery: Delivery, reason: Reason, detail: str, attempt: int) -> None:
        """Publishes the original record with the reason of its rejection; `RecordRefused` as `result`."""

    async def retry(self, delivery: Delivery, deferral: Deferral) -> bool:
        """Publishes the original record to the retry topic; False where it is too large for that."""


class Sink(TagStore, ResultPublisher, Protocol):
    """Where the answers of a run go in place of tags, and which photos it is over."""

    def letters(self, delivery: Delivery) -> bool:
        """Whether this record, once it is rejected, becomes a dead letter."""

    async def wants(self, event: events.Event) -> bool:
        """Whether the photo of an event is to be judged."""

    def fetched(self, photo: Photo) -> None:
        """A photo was fetched, and is judged now."""


async def _no_room() -> Permit:
    return await Budget(0).acquire(0)


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """The steps that judge photos under one release. They change together: a photo ends with those it began with."""

    prepare: Callable[[Photo], Awaitable[Views]]
    infer: Callable[[Views], Awaitable[Scores]]
    tag: Callable[[PhotoUploaded, Scores, Source], Tags]
    #: The scores of a photo: from the cache, or from the judge that is passed in.
    score: Callable[[Photo, Judge], Awaitable[Scores]] = judged
    #: The memory of its pixels, held until it has its scores.
    room: Callable[[], Awaitable[Permit]] = _no_room


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of the path; `service/construction.py` builds the real ones, tests pass fakes.

    `judgement` is that of the release in force now.
    """

    fetch: Callable[[PhotoUploaded], Awaitable[Photo]]
    judgement: Callable[[], Judgement]
    tombstone: Callable[[PhotoDeleted, Source], Deletion]
    store: TagStore
    publish: ResultPublisher
    parse: Callable[[Record], events.Event] = events.parse
    #: Whether an event is processed at all, others are skipped; without it, every one is.
    wants: Callable[[events.Event], Awaitable[bool]] | None = None
    #: Whether a record that is rejected becomes a dead letter; the answer of a run otherwise, or it has one already.
    letters: Callable[[Delivery], bool] = lambda _: True
    #: Whether the upload of a photo may be under way, so that it becomes whole later.
    is_under_way: Callable[[PhotoUploaded], bool] = lambda _: False


@dataclass(slots=True)
class Tries:
    """The failed attempts of one record, including those before it came from the retry topic."""

    failed: int
    wait: Wait
    #: The reason of its last deferral.
    waited_for: str = ""

    @classmethod
    def of(cls, delivery: Delivery) -> "Tries":
        """The attempts of earlier rounds, from the retry headers."""
        deferral = delivery.deferral
        return cls(0, delivery.wait) if deferral is None else cls(deferral.attempt, delivery.wait, deferral.reason)

    def counted(self, step: Callable[[T], Awaitable[U]], what: str) -> Callable[[T], Awaitable[U]]:
        """The step, with its transient failures counted; the record waits for `what`, or to try that again."""

        async def call(value: T) -> U:
            self.wait.what = what
            try:
                return await step(value)
            except Retryable as failure:
                self.failed += 1
                self.wait.what = f"another attempt: {what}, after {failure.reason}"
                raise

        return call
