"""Stand-ins that are passed in by constructor, and builders of the values that travel, for tests without a server."""

import json
import queue
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
from confluent_kafka import KafkaError, KafkaException

from consumer import contract, tagging, versions
from consumer.contract import Geometry, ModelContract, ServedModel, Views
from consumer.errors import Reason
from consumer.events import (
    Brand,
    Deletion,
    Headers,
    Photo,
    PhotoDeleted,
    PhotoUploaded,
    Quality,
    Record,
    Scores,
    Source,
    Tags,
)
from consumer.kafka.headers import Delivery, Unread, retried_delivery_of
from consumer.redis.store import Written
from consumer.resilience import Deferral
from consumer.steps import Judgement, Steps
from consumer.tags import say_the_same, supersedes

#: The number of the release that photos are tagged under.
RELEASE = 3_007
MOMENT = datetime(2026, 11, 21, 10, 15, 0, 123_000, tzinfo=UTC)
BRANDS = ("crimson", "azure", "no_logo")
CONTRACT = ModelContract(
    quality_model="photo_quality",
    quality_version="3",
    quality_geometry=Geometry(32, 32),
    good_threshold=0.5,
    brand_model="brand_logo",
    brand_version="7",
    brand_geometry=Geometry(32, 32),
    brand_threshold=0.6,
    brand_labels=BRANDS,
)


def uploaded_json(**changes: object) -> bytes:
    """A valid `photo.uploaded` payload; a change to `...` removes the field."""
    fields: dict[str, object] = {
        "photo_id": "photo-1",
        "uri": "https://photos.example/1.jpg",
        "uploaded_at": "2026-11-21T10:15:00.123Z",
        **changes,
    }
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def deleted_json(**changes: object) -> bytes:
    """A valid `photo.deleted` payload; a change to `...` removes the field."""
    fields: dict[str, object] = {"photo_id": "photo-1", "deleted_at": "2026-11-21T10:20:00Z", **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def record(
    value: bytes | None = None, *, kind: str | None = None, offset: int = 0, headers: Headers = (), partition: int = 0
) -> Record:
    """A record of the uploads topic; without a value it holds a valid upload."""
    said: Headers = () if kind is None else (("ce_type", kind.encode()),)
    payload = uploaded_json() if value is None else value
    return Record("photo-uploads", partition, offset, b"photo-1", payload, (*said, *headers))


def tags(**changes: Any) -> Tags:
    """Tags of `photo-1`, with changes."""
    base = Tags(
        photo_id="photo-1",
        quality=Quality(0.75, 4, good=True),
        brands=(Brand("crimson", 0.9),),
        probabilities={"crimson": 0.9, "azure": 0.05, "no_logo": 0.05},
        models={"photo_quality": "3", "brand_logo": "7"},
        version="0000000000001.003007.0000000000000",
        source=Source("photo-uploads", 0, 0),
        tagged_at=MOMENT.replace(microsecond=0),
    )
    return replace(base, **changes)


def served_models(
    *, quality: dict[str, str | None] | None = None, brand: dict[str, str | None] | None = None, version: int = 1
) -> tuple[ServedModel, ServedModel]:
    """Both models as Triton describes those of `tests/fake_models.py`; None removes a parameter."""
    labels = {"photo_quality": contract.QUALITY_LEVELS, "brand_logo": BRANDS}
    decisions = {"photo_quality": {"good_threshold": 0.5}, "brand_logo": {"threshold": 0.6}}
    outputs: dict[str, dict[str, tuple[int, ...]]] = {
        "photo_quality": {"quality_score": (1,), "quality_levels": (5,)},
        "brand_logo": {"brand_probs": (len(BRANDS),)},
    }
    changes = {"photo_quality": quality or {}, "brand_logo": brand or {}}
    models = []
    for name, dims in outputs.items():
        parameters: dict[str, str | None] = {
            "input_size": "32",
            "resize_rule": "short-side-center-crop",
            "resize_short_side": "32",
            "labels": json.dumps(labels[name]),
            "label_checksum": contract.label_checksum(labels[name]),
            f"decision.{version}": json.dumps(decisions[name]),
            **changes[name],
        }
        kept = {key: value for key, value in parameters.items() if value is not None}
        models.append(ServedModel(name, str(version), "UINT8", (32, 32, 3), dims, kept))
    return models[0], models[1]


class RecordingLog:
    """Keeps what was logged: (level, event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def named(self, event: str) -> list[dict[str, object]]:
        """The fields of every line of one event."""
        return [fields for _, name, fields in self.lines if name == event]

    def debug(self, event: str, /, **fields: object) -> None:
        self.lines.append(("debug", event, fields))

    def info(self, event: str, /, **fields: object) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, /, **fields: object) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, /, **fields: object) -> None:
        self.lines.append(("error", event, fields))

    def exception(self, event: str, /, **fields: object) -> None:
        self.lines.append(("exception", event, fields))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What a publisher was asked to bury."""

    record: Record
    reason: Reason
    detail: str
    attempt: int


Fault = Callable[[str], Awaitable[None]]


async def no_fault(verb: str) -> None:
    """The fault that never strikes."""


@dataclass(slots=True)
class World:
    """Every edge of the pipeline in memory; `fault` is awaited before each effect and may raise or wait.

    Tags and tombstones are kept by version, as Redis keeps them.
    """

    fault: Fault = no_fault
    takes_retries: bool = True
    #: Whether what it delivered is still this member's.
    ours: bool = True
    #: What judges now; without it, always the same.
    judges: Judgement | None = None
    body: bytes = b"jpeg"
    fetched: list[Photo] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    stored: dict[str, Tags] = field(default_factory=dict)
    deleted: dict[str, Deletion] = field(default_factory=dict)
    #: Records of the result topic in their order: (photo id, version).
    topic: list[tuple[str, str]] = field(default_factory=list)
    published: list[tuple[Record, Tags]] = field(default_factory=list)
    tombstones: list[tuple[Record, str]] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    deferred: list[tuple[Record, Deferral]] = field(default_factory=list)
    done: list[Record] = field(default_factory=list)

    def steps(self) -> Steps:
        """The steps of the pipeline over this world."""
        judgement = Judgement(prepare=self._prepare, infer=self._infer, tag=self._tag)
        return Steps(
            fetch=self._fetch,
            judgement=lambda: self.judges or judgement,
            tombstone=self._tombstone,
            store=_Store(self),
            publish=_Publisher(self),
        )

    def outcomes_of(self, one: Record) -> list[str]:
        """What became known of a record outside the service."""
        return (
            ["published" for source, _ in self.published if source is one]
            + ["tombstone" for source, _ in self.tombstones if source is one]
            + ["dead" for letter in self.dead if letter.record is one]
            + ["deferred" for source, _ in self.deferred if source is one]
        )

    async def effect(self, verb: str) -> None:
        """Notes an effect once its fault let it pass."""
        await self.fault(verb)
        self.effects.append(verb)

    async def _fetch(self, event: PhotoUploaded) -> Photo:
        await self.effect("fetch")
        self.fetched.append(Photo(event.photo_id, event.uri, self.body))
        return self.fetched[-1]

    async def _prepare(self, photo: Photo) -> Views:
        assert photo.body == self.body
        await self.effect("prepare")
        return {Geometry(32, 32): np.zeros((32, 32, 3), np.uint8)}

    async def _infer(self, views: Views) -> Scores:
        assert views.keys() == set(CONTRACT.geometries.values())
        await self.effect("infer")
        return Scores(0.75, np.array([0.9, 0.05, 0.05], np.float32), CONTRACT.models)

    def _tag(self, event: PhotoUploaded, scores: Scores, source: Source) -> Tags:
        self.effects.append("tag")
        later = MOMENT + timedelta(seconds=len(self.effects))
        return tagging.decide(event, scores, source, CONTRACT, release=RELEASE, top_k=5, tagged_at=later)

    def _tombstone(self, event: PhotoDeleted, source: Source) -> Deletion:
        self.effects.append("decide_deletion")
        return Deletion(event.photo_id, versions.tombstone_of(event), source, event.deleted_at)

    def delivery(self, one: Record) -> Delivery:
        """A delivery whose end this world notes; as of the retry topic where it has the headers of a wait."""
        return retried_delivery_of(one, _Owner(self))


@dataclass(slots=True)
class _Owner:
    world: World

    def done(self, one: Record) -> None:
        self.world.effects.append("done")
        self.world.done.append(one)

    def holds(self, _: Record) -> bool:
        return self.world.ours

    @property
    def unread(self) -> dict[tuple[str, int], Unread]:
        return {}


class _Store:
    def __init__(self, world: World) -> None:
        self._world = world

    async def write(self, decided: Tags | Deletion) -> Written:
        await self._world.effect("write" if isinstance(decided, Tags) else "delete")
        stored, deleted, photo_id = self._world.stored, self._world.deleted, decided.photo_id
        present = stored.get(photo_id) or deleted.get(photo_id)
        if present is not None and present.version == decided.version and say_the_same(present, decided):
            return Written("unchanged", present)
        if present is None or supersedes(decided, present):
            self._world.versions[photo_id] = decided.version
            stored.pop(photo_id, None)
            if isinstance(decided, Tags):
                stored[photo_id] = decided
            else:
                deleted[photo_id] = decided
            return Written("written", decided)
        return Written("superseded" if supersedes(present, decided) else "unchanged", present)

    async def newer(self, decision: Tags | Deletion) -> Tags | Deletion | None:
        await self._world.fault("newer")
        present = self._world.stored.get(decision.photo_id) or self._world.deleted.get(decision.photo_id)
        return present if present is not None and supersedes(present, decision) else None


class _Publisher:
    def __init__(self, world: World) -> None:
        self._world = world

    async def result(self, decided: Tags | Deletion, source: Delivery) -> None:
        await self._world.effect("publish" if isinstance(decided, Tags) else "tombstone")
        if isinstance(decided, Tags):
            self._world.published.append((source.record, decided))
        else:
            self._world.tombstones.append((source.record, decided.photo_id))
        self._world.topic.append((decided.photo_id, decided.version))

    async def dead_letter(self, source: Delivery, reason: Reason, detail: str, attempt: int) -> None:
        await self._world.effect("dead_letter")
        self._world.dead.append(DeadLetter(source.record, reason, detail, attempt))

    async def retry(self, source: Delivery, deferral: Deferral) -> bool:
        await self._world.effect("retry")
        if self._world.takes_retries:
            self._world.deferred.append((source.record, deferral))
        return self._world.takes_retries


@dataclass(frozen=True, slots=True)
class Produced:
    """One message that a producer accepted."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    partition: int
    offset: int

    def stored(self) -> SimpleNamespace:
        """The message with which a client reports where it is stored."""
        place = {"topic": self.topic, "partition": max(0, self.partition), "offset": self.offset}
        return SimpleNamespace(**{name: lambda value=value: value for name, value in place.items()})

    def header(self, name: str) -> str | None:
        """The last header of that name as text."""
        values = [value for key, value in self.headers if key == name and value is not None]
        return values[-1].decode() if values else None


class FakeProducer:
    """A Kafka producer whose deliveries end with the given errors, one each, and well after those.

    `refuses` gives the error, if any, with which the brokers answer a message whenever it comes. `fatal` is raised once
    something was sent; after it nothing is taken or sent, and what is queued is answered once it is purged.
    """

    def __init__(
        self,
        *,
        full: int = 0,
        errors: Sequence[KafkaError] = (),
        refusal: Exception | None = None,
        refuses: Callable[[Produced], int | None] = lambda _: None,
        fatal: Exception | None = None,
    ) -> None:
        self.full = full
        self.refusal = refusal
        self.produced: list[Produced] = []
        self._errors = list(errors)
        self._refuses = refuses
        self._fatal, self._ended = fatal, False
        self._deliveries: queue.SimpleQueue[Callable[[KafkaError | None], None]] = queue.SimpleQueue()

    def __len__(self) -> int:
        return self._deliveries.qsize()

    def produce(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None,
        headers: list[tuple[str, bytes | None]],
        on_delivery: Callable[[KafkaError | None, object], None],
        partition: int = -1,
    ) -> None:
        """Accepts a message, or raises BufferError while the queue is full."""
        if self.refusal is not None:
            raise self.refusal
        if self.full:
            self.full -= 1
            raise BufferError("queue full")
        message = Produced(topic, key, value, headers, partition, len(self.produced))
        self.produced.append(message)
        code = self._refuses(message)
        self._deliveries.put(lambda error: on_delivery(error if code is None else KafkaError(code), message.stored()))

    def poll(self, timeout: float) -> int:
        """Serves one delivery report."""
        if self._ended:
            return 0
        try:
            report = self._deliveries.get(timeout=timeout)
        except queue.Empty:
            return 0
        if self._fatal is not None:
            fatal, self._fatal, self._ended = self._fatal, None, True
            self._deliveries.put(report)
            self.refusal = KafkaException(KafkaError(KafkaError._FATAL))
            raise fatal
        report(self._errors.pop(0) if self._errors else None)
        return 1

    def purge(self, *, in_flight: bool) -> None:
        """Has what is queued answered by the next polls."""
        assert not in_flight
        self._errors, self._ended = [KafkaError(KafkaError._PURGE_QUEUE)] * len(self), False
