"""The books of a fault experiment: every event that was produced against what became of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import redis
from confluent_kafka import KafkaException, Message

from consumer import events, versions
from consumer.errors import PhotoRejected
from consumer.events import PhotoDeleted, Record
from consumer.redis.schema import fields_of, photo_key
from tests.harness import World, headers_of

_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Entry:
    """One event: its place in the upload topic, its photo, and the lowest version that settles it (None: no event)."""

    origin: str
    photo_id: str
    least: str | None


@dataclass(frozen=True, slots=True)
class Books:
    """What the topics, the committed positions and Redis say about every event."""

    #: Events without an outcome.
    lost: tuple[str, ...]
    #: Results that were published again, by event and version.
    repeated: Counter[tuple[str, str]]
    #: Photos whose version went back, in the result topic or in Redis.
    regressed: tuple[str, ...]
    #: Events that ended both as a result and as a dead letter.
    twofold: tuple[str, ...]
    #: Committed positions beyond an event without an outcome.
    early: tuple[str, ...]
    #: Photos that Redis and the result topic tell differently about.
    differing: tuple[str, ...]
    #: The dead letters, by event, with their reasons.
    dead: dict[str, str]

    @property
    def duplicated(self) -> int:
        """How many results were published once more than needed."""
        return self.repeated.total()

    def check(self, dead: int) -> None:
        """Fails unless the books balance with so many dead letters."""
        assert self.lost == (), "events were lost"
        assert self.regressed == (), "versions went back"
        assert self.twofold == (), "events have two outcomes"
        assert self.early == (), "positions were committed before their events were done"
        assert self.differing == (), "Redis and the result topic differ"
        assert len(self.dead) == dead, f"dead letters: {Counter(self.dead.values())}"


@dataclass
class Ledger:
    """Every event that was produced, and the checks that must hold whatever happened in between."""

    world: World
    #: The number of events of each photo.
    produced: Counter[str] = field(default_factory=Counter)
    _seen: dict[str, str] = field(default_factory=dict)
    _went_back: set[str] = field(default_factory=set)

    def upload(self, photo_id: str, name: str, *, revision: int | None = None, partition: int = -1) -> None:
        """Produces an upload event and books it."""
        self.world.upload(photo_id, name, revision=revision, partition=partition)
        self.produced[photo_id] += 1

    def delete(self, photo_id: str, *, revision: int | None = None) -> None:
        """Produces a deletion and books it."""
        self.world.delete(photo_id, revision=revision)
        self.produced[photo_id] += 1

    def send(self, photo_id: str, value: bytes) -> None:
        """Produces whatever bytes as an upload event and books it."""
        self.world.send(photo_id, value, events.UPLOADED)
        self.produced[photo_id] += 1

    async def settle(self, deadline_s: float = 60.0, looks: int = 1) -> None:
        """Waits until everything produced is committed as done, for so many looks on end; looks at Redis meanwhile."""
        end = time.monotonic() + deadline_s
        good = 0
        while good < looks:
            good = good + 1 if await asyncio.to_thread(self._settled) else 0
            assert good or time.monotonic() < end, f"not settled within {deadline_s} s: {self.world.committed()}"
            await asyncio.sleep(_LOOK_S)

    def _settled(self) -> bool:
        self.observe()
        try:
            committed = self.world.committed()
        except KafkaException:
            return False
        return sum(offset for offset in committed.values() if offset > 0) == self.produced.total()

    def observe(self) -> None:
        """Notes each photo's version in Redis, if it answers; one that is lower than before went back."""
        photo_ids = list(self.produced)
        with redis.Redis.from_url(self.world.settings.redis.url, decode_responses=True) as client:
            lines = client.pipeline(transaction=False)
            for photo_id in photo_ids:
                lines.hget(photo_key(photo_id), "ver")
            try:
                found = lines.execute()
            except redis.RedisError:
                return
        for photo_id, version in zip(photo_ids, found, strict=True):
            if version is not None:
                self._note(photo_id, version)

    def check_commits(self) -> None:
        """Fails if a position was committed beyond an event that has no outcome yet; good at any moment."""
        committed = self.world.committed()  # first: what is read later may only be more
        assert self._topics().early(committed) == ()

    def close(self, books: Books | None = None, *, dead: int = 0) -> Books:
        """Fails unless the books (by default as of now) balance with so many dead letters and all is committed."""
        books = books or self.audit()
        books.check(dead)
        assert self._settled(), f"uncommitted: {self.world.committed()}"
        return books

    def audit(self) -> Books:
        """Compares the upload topic with what became of each event, by topics, positions and Redis."""
        committed = self.world.committed()  # as in `check_commits`
        topics = self._topics()
        held = Counter(entry.photo_id for entry in topics.entries)
        assert held == self.produced, "the upload topic does not hold what was produced"
        self.observe()
        seen = Counter((headers_of(result)["ce_id"], _version_in(result)) for result in topics.results)
        return Books(
            lost=tuple(f"{entry.photo_id} at {entry.origin}" for entry in topics.unfinished),
            repeated=Counter({key: count - 1 for key, count in seen.items() if count > 1}),
            regressed=tuple(sorted({*topics.back, *self._went_back})),
            twofold=tuple(sorted({origin for origin, _ in seen} & topics.letters.keys())),
            early=topics.early(committed),
            differing=tuple(self._differing(topics)),
            dead=topics.letters,
        )

    def _topics(self) -> "_Topics":
        world = self.world
        return _Topics(
            results=world.tags(),
            letters={_origin_in(letter): headers_of(letter)["reason"] for letter in world.dead()},
            waiting=frozenset(map(_origin_in, world.waiting())),
            entries=[_entry(message) for message in world.read(world.settings.kafka.uploads_topic)],
        )

    def _note(self, photo_id: str, version: str) -> None:
        if version < self._seen.get(photo_id, ""):
            self._went_back.add(photo_id)
        self._seen[photo_id] = version

    def _differing(self, topics: "_Topics") -> Iterator[str]:
        last = {message.key().decode(): message for message in topics.results}
        with redis.Redis.from_url(self.world.settings.redis.url, decode_responses=True) as client:
            for photo_id, message in last.items():
                held = client.hgetall(photo_key(photo_id))
                if held.get("ver") != topics.newest[photo_id] or not _tells(held, message):
                    yield photo_id


@dataclass
class _Topics:
    """What stands in the topics."""

    results: Sequence[Message]
    letters: dict[str, str]
    waiting: frozenset[str]
    entries: Sequence[Entry]
    newest: dict[str, str] = field(default_factory=dict)
    back: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for result in self.results:
            photo_id, version = result.key().decode(), _version_in(result)
            self.newest[photo_id] = max(version, self.newest.get(photo_id, ""))
            # A slow writer's result may stand behind a newer one only until that one is published again.
            (self.back.add if version < self.newest[photo_id] else self.back.discard)(photo_id)

    @property
    def unfinished(self) -> list[Entry]:
        """Events without an outcome: no dead letter, and no tags (or deletion) at their version or newer."""
        return [
            entry
            for entry in self.entries
            if entry.origin not in self.letters
            and (entry.least is None or self.newest.get(entry.photo_id, "") < entry.least)
        ]

    def early(self, committed: dict[int, int]) -> tuple[str, ...]:
        """Unfinished events that lie below a committed position and do not wait in the retry topic."""
        places = [(entry.origin, *map(int, entry.origin.split("/")[1:])) for entry in self.unfinished]
        return tuple(
            origin
            for origin, partition, offset in places
            if origin not in self.waiting and committed[partition] > offset
        )


def _tells(held: dict[str, str], message: Message) -> bool:
    """Whether a photo's hash in Redis says, field by field, what a result says."""
    value = message.value()
    if value is None:
        return held.get("del") == "1"
    expected = fields_of(events.decode_tags(value))
    return held == {name: field.decode() if isinstance(field, bytes) else field for name, field in expected.items()}


def _entry(message: Message) -> Entry:
    headers = tuple(message.headers() or ())
    record = Record(
        message.topic(), message.partition(), message.offset(), message.key(), message.value(), headers, timestamp_ms=0
    )
    origin = f"{record.topic}/{record.partition}/{record.offset}"
    photo_id = message.key().decode()
    try:
        event = events.parse(record)
    except PhotoRejected:
        return Entry(origin, photo_id, None)
    if isinstance(event, PhotoDeleted):
        return Entry(origin, photo_id, versions.tombstone_of(event))
    return Entry(origin, photo_id, versions.version_of(event, release=0))


def _origin_in(message: Message) -> str:
    """Where a record that was moved was first read."""
    said = headers_of(message)
    return "/".join(said[f"original_{part}"] for part in ("topic", "partition", "offset"))


def _version_in(message: Message) -> str:
    value = message.value()
    return headers_of(message)[events.VERSION_HEADER] if value is None else events.decode_tags(value).version
