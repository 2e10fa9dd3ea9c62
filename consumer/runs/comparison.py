"""The comparison: the answers of a run folded into exact counts, in memory that does not grow with the photos. Pure.

It does not depend on the order of the answers, and comparisons of parts merge into that of the whole: sums are of whole
numbers, ties go by photo id, and samples are those with the smallest hash.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Final, Literal

from consumer.runs.answers import Answer
from consumer.runs.bounded import Mergeable, Named, Smallest
from consumer.runs.figures import Histogram
from consumer.tags import Tags

#: Scores are summed in millionths, their published precision, so that no order of additions changes a sum.
MICROS: Final = 1_000_000
_SCORE_WIDTH: Final = MICROS // 1000
#: Times are counted by their logarithm: 0.1 ms to 1,000 s in bins of 1.2 %.
DECADE: Final = 1000
_TIME_WIDTH: Final = 5
_SHORTEST_MS: Final = 0.1
#: Photos that are shown for each kind of change, and of each reason why photos could not be judged.
MOST_SHOWN: Final = 24
_MOST_UNJUDGED: Final = 8
#: Characters of a text in an example: keys of unreadable records and details have no bound of their own.
_MAX_TEXT: Final = 1000
#: Names come from records, which any program may write.
_MOST_BRANDS: Final = 4096
_MOST_NAMES: Final = 64
UNKNOWN: Final = "unknown"
#: Age of the photo at the start of the run: the first day of each group but the first, and the names of the groups.
_AGE_DAYS: Final = (1, 7, 30, 90, 365)
AGES: Final = (
    "under a day",
    "1 to 6 days",
    "7 to 29 days",
    "30 to 89 days",
    "90 to 364 days",
    "a year or more",
    UNKNOWN,
)

#: What is counted. From `compared` on, photos among those that are compared.
Count = Literal[
    "judged",
    "not_judged",
    "not_tagged_before",
    "other_content",
    "compared",
    "unchanged",
    "same_brands",
    "becomes_good",
    "no_longer_good",
    "gains_brands",
    "loses_brands",
    "had_brands",
    "loses_all_brands",
]


@dataclass(slots=True)
class Slice:
    """Photos that have something in common: how many, the sum of their shifts (millionths), how many unchanged."""

    photos: int = 0
    shift: int = 0
    unchanged: int = 0

    def add(self, shift: int, *, unchanged: bool) -> None:
        """Counts a photo."""
        self.photos += 1
        self.shift += shift
        self.unchanged += unchanged

    def merge(self, other: "Slice") -> None:
        """Counts all that the other has."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(slots=True)
class BrandSlice(Slice):
    """Photos that are tagged with a brand before or after: those tagged only after gained it, only before lost it."""

    gained: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """A photo that could not be judged; each text is cut to 1,000 characters."""

    #: The key of its record.
    photo_id: str
    #: The URI of its upload; null where that cannot be read.
    uri: str | None
    #: What happened.
    detail: str


@dataclass(slots=True)
class Unjudged:
    """Photos that could not be judged for one reason: how many, and a random few."""

    photos: int = 0
    sample: Smallest[Example] = field(default_factory=partial(Smallest, _MOST_UNJUDGED))

    def add(self, answer: Answer) -> None:
        """Counts a photo."""
        self.photos += 1
        uri = None if answer.uri is None else answer.uri[:_MAX_TEXT]
        example = Example(answer.photo_id[:_MAX_TEXT], uri, answer.detail[:_MAX_TEXT])
        self.sample.add(_hash_of(answer.photo_id), answer.photo_id[:_MAX_TEXT], example)

    def merge(self, other: "Unjudged") -> None:
        """Counts all that the other has."""
        self.photos += other.photos
        self.sample.merge(other.sample)


def _most_shown() -> Smallest[Answer]:
    return Smallest(MOST_SHOWN)


def _scores() -> Histogram:
    return Histogram.over(0, MICROS, _SCORE_WIDTH)


@dataclass(slots=True)
class Comparison:
    """What a candidate changes, over all answers that were added; each photo may be added once.

    Compared are photos that have tags of the same content before and after. Tags of another content say nothing about
    the candidate: the photo itself is another.
    """

    #: The start of the run, from which the age of photos counts.
    started_at: datetime
    counts: Counter[Count] = field(default_factory=Counter)
    not_judged: Named[Unjudged] = field(default_factory=partial(Named, Unjudged, _MOST_NAMES))
    #: Photos by their level before and after.
    levels: Counter[tuple[int, int]] = field(default_factory=Counter)
    #: Scores, and score after minus score before, in millionths.
    score_before: Histogram = field(default_factory=_scores)
    score_after: Histogram = field(default_factory=_scores)
    shift: Histogram = field(default_factory=partial(Histogram.over, -MICROS, MICROS, _SCORE_WIDTH))
    #: From fetch to scores, of photos that were judged: thousandths of the decimal logarithm of milliseconds.
    took: Histogram = field(default_factory=partial(Histogram.over, -DECADE, 6 * DECADE, _TIME_WIDTH))
    by_brand: Named[BrandSlice] = field(default_factory=partial(Named, BrandSlice, _MOST_BRANDS))
    by_level: Named[Slice] = field(default_factory=partial(Named, Slice, _MOST_NAMES))
    by_format: Named[Slice] = field(default_factory=partial(Named, Slice, _MOST_NAMES))
    by_age: Named[Slice] = field(default_factory=partial(Named, Slice, _MOST_NAMES))
    #: The largest shifts of the score, and the brands whose probability rose or fell most, of those gained or lost.
    quality_up: Smallest[Answer] = field(default_factory=_most_shown)
    quality_down: Smallest[Answer] = field(default_factory=_most_shown)
    brands_gained: Smallest[Answer] = field(default_factory=_most_shown)
    brands_lost: Smallest[Answer] = field(default_factory=_most_shown)

    def add(self, answer: Answer) -> None:
        """Counts an answer."""
        if answer.after is None:
            self.counts["not_judged"] += 1
            self.not_judged.of(answer.reason or UNKNOWN).add(answer)
            return
        self.counts["judged"] += 1
        if answer.took_ms:  # nothing was fetched for thresholds alone
            self.took.add(round(DECADE * math.log10(max(answer.took_ms, _SHORTEST_MS))))
        if answer.before is None:
            self.counts["not_tagged_before"] += 1
        elif int(answer.before.version.partition(".")[0]) != answer.content_rev:
            self.counts["other_content"] += 1
        else:
            self._compare(answer, answer.before, answer.after)

    def merge(self, other: "Comparison") -> None:
        """Counts all that the other has.

        Raises:
            ValueError: it is of a run that started at another time.
        """
        if self.started_at != other.started_at:
            raise ValueError(f"a run of {self.started_at} cannot be merged with one of {other.started_at}")
        self.counts.update(other.counts)
        self.levels.update(other.levels)
        for mine, theirs in zip(self.parts(), other.parts(), strict=True):
            mine.merge(theirs)

    def parts(self) -> tuple[Mergeable, ...]:
        """What merges by itself, always in the same order."""
        return (
            *(self.not_judged, self.score_before, self.score_after, self.shift, self.took),
            *(self.by_brand, self.by_level, self.by_format, self.by_age),
            *(self.quality_up, self.quality_down, self.brands_gained, self.brands_lost),
        )

    def _compare(self, answer: Answer, before: Tags, after: Tags) -> None:
        had = {brand.brand for brand in before.brands}
        has = {brand.brand for brand in after.brands}
        was, now = _micros(before.quality.score), _micros(after.quality.score)
        same_quality = (before.quality.level, before.quality.good) == (after.quality.level, after.quality.good)
        unchanged = same_quality and had == has
        self.counts["compared"] += 1
        self.counts["unchanged"] += unchanged
        self._count_quality(answer, before, after, was, now)
        self._count_brands(answer, before, after, had, has)
        self._count_slices(answer, before, had, has, now - was, unchanged=unchanged)

    def _count_quality(self, answer: Answer, before: Tags, after: Tags, was: int, now: int) -> None:
        self.levels[before.quality.level, after.quality.level] += 1
        if before.quality.good != after.quality.good:
            self.counts["becomes_good" if after.quality.good else "no_longer_good"] += 1
        self.score_before.add(was)
        self.score_after.add(now)
        self.shift.add(now - was)
        if now > was:
            self.quality_up.add((was - now) / MICROS, answer.photo_id, answer)
        elif now < was:
            self.quality_down.add((now - was) / MICROS, answer.photo_id, answer)

    def _count_brands(self, answer: Answer, before: Tags, after: Tags, had: set[str], has: set[str]) -> None:
        self.counts["had_brands"] += bool(had)
        if had == has:
            self.counts["same_brands"] += 1
            return
        if gained := has - had:
            self.counts["gains_brands"] += 1
            self.brands_gained.add(-_rise(gained, before, after), answer.photo_id, answer)
        if lost := had - has:
            self.counts["loses_brands"] += 1
            self.counts["loses_all_brands"] += not has
            self.brands_lost.add(-_rise(lost, after, before), answer.photo_id, answer)

    def _count_slices(
        self, answer: Answer, before: Tags, had: set[str], has: set[str], shift: int, *, unchanged: bool
    ) -> None:
        age = self._age(answer.uploaded_at)
        self.by_level.of(str(before.quality.level)).add(shift, unchanged=unchanged)
        self.by_format.of(answer.format or UNKNOWN).add(shift, unchanged=unchanged)
        self.by_age.of(age).add(shift, unchanged=unchanged)
        for brand in had | has:
            counted = self.by_brand.of(brand)
            counted.add(shift, unchanged=unchanged)
            counted.gained += brand not in had
            counted.lost += brand not in has

    def _age(self, uploaded_at: datetime | None) -> str:
        return UNKNOWN if uploaded_at is None else AGES[bisect_right(_AGE_DAYS, (self.started_at - uploaded_at).days)]


def fold(answers: Iterable[Answer], started_at: datetime) -> Comparison:
    """The comparison over the answers of a run that started at that time; each photo may come once."""
    comparison = Comparison(started_at)
    for answer in answers:
        comparison.add(answer)
    return comparison


def _micros(score: float) -> int:
    return round(score * MICROS)


def _rise(brands: set[str], before: Tags, after: Tags) -> float:
    """How far the probability of a brand rose, of that which rose most."""
    return max(_probability(after, brand) - _probability(before, brand) for brand in brands)


def _probability(tags: Tags, brand: str) -> float:
    """0 of a brand that the model does not know."""
    return tags.probabilities.get(brand, 0.0)


def _hash_of(photo_id: str) -> int:
    return int.from_bytes(blake2b(photo_id.encode(errors="surrogatepass"), digest_size=8).digest())
