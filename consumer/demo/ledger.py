"""What became of each photo of a demo: outcomes, the numbers of the summary, and what is wrong with them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from consumer.demo.photos import DemoPhoto
from consumer.events import Tags
from consumer.kafka.headers import Failure
from consumer.versions import release_in


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one photo, and the time in the broker's record of it, ms since 1970."""

    result: Tags | Failure
    at_ms: int


@dataclass(slots=True)
class Ledger:
    """Every published event and its outcome.

    Attributes:
        published_ms: By photo id, the time in the record of its event.
        outcomes: By photo id, its first outcome.
        contradictions: A line for each record that does not fit: a second outcome of another kind, or one of no photo.
    """

    published_ms: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every published event has an outcome."""
        return self.outcomes.keys() >= self.published_ms.keys()

    def enter(self, photo_id: str, outcome: Outcome) -> None:
        """Records an outcome; delivery is at least once, so it may be delivered again."""
        first = self.outcomes.setdefault(photo_id, outcome)
        if photo_id not in self.published_ms:
            self.contradictions.append(f"{photo_id}: an outcome without an event")
        elif type(first.result) is not type(outcome.result):
            self.contradictions.append(f"{photo_id}: both tags and a dead letter")

    def after(self, results: Mapping[str, Tags]) -> "Ledger":
        """The same events with later results in place of their tags; a dead letter stays one."""
        later = {
            photo_id: replace(outcome, result=results.get(photo_id, outcome.result))
            for photo_id, outcome in self.outcomes.items()
            if isinstance(outcome.result, Tags)
        }
        return Ledger(self.published_ms, {**self.outcomes, **later}, self.contradictions)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of the summary; rates and latencies are None if nothing was measured."""

    tagged: int
    dead_lettered: int
    photos_per_s: float | None
    p50_ms: float | None
    p95_ms: float | None


def numbers_of(ledger: Ledger) -> Numbers:
    """Counts, photos per second from the first event to the last outcome, and latencies from event to tag."""
    latencies_ms = [
        outcome.at_ms - ledger.published_ms[photo_id]
        for photo_id, outcome in ledger.outcomes.items()
        if isinstance(outcome.result, Tags) and photo_id in ledger.published_ms
    ]
    return Numbers(
        tagged=len(latencies_ms),
        dead_lettered=len(ledger.outcomes) - len(latencies_ms),
        photos_per_s=_rate(ledger),
        p50_ms=_percentile(latencies_ms, 0.50),
        p95_ms=_percentile(latencies_ms, 0.95),
    )


def _rate(ledger: Ledger) -> float | None:
    if not ledger.outcomes or not ledger.published_ms:
        return None
    span_ms = max(outcome.at_ms for outcome in ledger.outcomes.values()) - min(ledger.published_ms.values())
    return len(ledger.outcomes) * 1000 / max(span_ms, 1)


def _percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile, which is a measured value."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def problems_of(
    photos: Sequence[DemoPhoto], ledger: Ledger, stored: Mapping[str, Tags], *, all_tagged: bool
) -> list[str]:
    """Everything that is wrong with a finished run, a line each.

    Args:
        photos: What was published.
        ledger: Their outcomes.
        stored: The tags in Redis.
        all_tagged: Whether every photo without `must_fail` must have tags: true of the samples, not of a user's photos.
    """
    found = list(ledger.contradictions)
    for photo in photos:
        outcome = ledger.outcomes.get(photo.photo_id)
        if outcome is None:
            found.append(f"{photo.name}: no outcome")
            continue
        found.extend(_expectation(photo, outcome, all_tagged=all_tagged))
        found.extend(_disagreement(photo, outcome, stored.get(photo.photo_id)))
    return found


def releases_of(stored: Mapping[str, Tags]) -> list[int]:
    """The numbers of the releases that tags were decided under."""
    return sorted({number for tags in stored.values() if (number := release_in(tags.version)) is not None})


def left_behind(photos: Sequence[DemoPhoto], stored: Mapping[str, Tags], release: int) -> list[str]:
    """A line for each photo whose tags in Redis are of another release."""
    found = []
    for photo in photos:
        tags = stored.get(photo.photo_id)
        if tags is not None and (number := release_in(tags.version)) != release:
            found.append(f"{photo.name}: its tags are of release {number}, and {release} is in force")
    return found


def _expectation(photo: DemoPhoto, outcome: Outcome, *, all_tagged: bool) -> Iterator[str]:
    reason = outcome.result.reason if isinstance(outcome.result, Failure) else "tags"
    if photo.must_fail is not None and reason != photo.must_fail:
        yield f"{photo.name}: expected a dead letter {photo.must_fail}, got {reason}"
    elif photo.must_fail is None and all_tagged and isinstance(outcome.result, Failure):
        yield f"{photo.name}: expected tags, got a dead letter {reason}: {outcome.result.detail}"


def _disagreement(photo: DemoPhoto, outcome: Outcome, stored: Tags | None) -> Iterator[str]:
    # A reader must get the same decision from either of the two.
    published = outcome.result
    if isinstance(published, Failure):
        if stored is not None:
            yield f"{photo.name}: a dead letter, but Redis has tags"
    elif stored is None:
        yield f"{photo.name}: tags in the result topic, but none in Redis"
    elif _decision(stored) != _decision(published):
        yield f"{photo.name}: Redis has {_decision(stored)}, the result topic has {_decision(published)}"


def _decision(tags: Tags) -> tuple[object, ...]:
    return tags.quality, tuple(tags.brands), dict(tags.models), tags.version
