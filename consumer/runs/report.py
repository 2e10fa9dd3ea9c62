"""The report of a run: every number of its comparison, named. Pure.

These classes are the contract of the JSON report: their fields are its keys, and its JSON Schema is made from them. The
page shows the same report. Scores and shares are 0..1, times in milliseconds.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from pydantic import TypeAdapter

from consumer.releases import Decision, ModelVersion
from consumer.runs.comparison import Example
from consumer.runs.figures import Share
from consumer.runs.gates import Gates, Violation
from consumer.tags import Brand, Quality

DIFF: Final = "run.diff"


@dataclass(frozen=True, slots=True)
class Judges:
    """Which version of each model judges, and with which thresholds; `release` is the number of that decision.

    It is None of a candidate, which has none until it is promoted.
    """

    release: int | None
    quality: ModelVersion
    brand: ModelVersion
    decision: Decision


@dataclass(frozen=True, slots=True)
class RunHeader:
    """What a run is: its candidate, the release that was in force at its start, and who started it.

    `photos` says for a person which ones it is over; `seconds` is how long it worked, if that is known.
    """

    run_id: str
    candidate: Judges
    in_force: Judges
    photos: str
    started_at: datetime
    by: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Photos:
    """How many photos: answers are judged or not judged; of the judged, those are compared that have tags of before.

    `not_tagged_before` had none in force, and `other_content` had those of another upload of the same photo.
    """

    answers: int
    judged: int
    not_judged: int
    not_tagged_before: int
    other_content: int
    compared: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Of the photos that are compared, how many change and in which direction; one photo may be in several.

    `loses_all_brands` is of those that had brands before.
    """

    any: Share
    higher_level: Share
    lower_level: Share
    level_jumps: Share
    becomes_good: Share
    no_longer_good: Share
    gains_brands: Share
    loses_brands: Share
    loses_all_brands: Share


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of the photos that are compared, how many have the same level, verdict (good or not), set of brands, and all."""

    level: Share
    good: Share
    brands: Share
    all: Share


@dataclass(frozen=True, slots=True)
class Quantiles:
    """The values that 5, 25, 50, 75 and 95 of 100 photos do not exceed, to a thousandth."""

    p5: float
    p25: float
    p50: float
    p75: float
    p95: float


@dataclass(frozen=True, slots=True)
class QualityShift:
    """The quality scores before and after, and their difference; None of no photos.

    The histograms are counts in 40 bars of equal width from 0 to 1. `levels` has a row for each level before, 1 to 5,
    with the counts of the levels after.
    """

    mean_before: float | None
    mean_after: float | None
    mean_shift: float | None
    before: Quantiles | None
    after: Quantiles | None
    shift: Quantiles | None
    histogram_before: tuple[int, ...]
    histogram_after: tuple[int, ...]
    levels: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class SliceRow:
    """Photos that have something in common.

    How many are compared, how far their mean score moves, and how many keep level, verdict and brands.
    """

    name: str
    photos: int
    mean_shift: float
    unchanged: Share


@dataclass(frozen=True, slots=True)
class BrandRow:
    """The photos of one brand, as in `SliceRow`, and how many show it before, after, only after, and only before."""

    brand: str
    photos: int
    mean_shift: float
    unchanged: Share
    before: int
    after: int
    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class Slices:
    """The photos that are compared, parted by level before, by format and by age at the start of the run."""

    level: tuple[SliceRow, ...]
    format: tuple[SliceRow, ...]
    age: tuple[SliceRow, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What tags say of a photo."""

    quality: Quality
    brands: tuple[Brand, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A photo that changes much.

    `size` is how far its score moves or, for brands, how far the probability of a brand that is gained or lost moves,
    of the one that moves most.
    """

    photo_id: str
    uri: str | None
    size: float
    before: Verdict
    after: Verdict


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest changes of each kind, at most 24, the largest first."""

    quality_up: tuple[Change, ...]
    quality_down: tuple[Change, ...]
    brands_gained: tuple[Change, ...]
    brands_lost: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class NotJudged:
    """Why photos could not be judged: a reason of dead letters, how many photos, and at most 8 drawn by chance."""

    reason: str
    photos: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Latency:
    """The times from fetch to scores that 50, 95 and 99 of 100 judged photos do not exceed, to a hundredth of each."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class GateState:
    """Whether the run may be promoted as it is, the limits, and each one that does not hold."""

    hold: bool
    limits: Gates
    violations: tuple[Violation, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What the candidate of a run changes."""

    kind: Literal["run.diff"]
    version: Literal[1]
    run: RunHeader
    gates: GateState
    photos: Photos
    changes: Changes
    agreement: Agreement
    quality: QualityShift
    brands: tuple[BrandRow, ...]
    slices: Slices
    largest: Largest
    not_judged: tuple[NotJudged, ...]
    latency: Latency | None
    photos_per_s: float | None


#: Its JSON Schema is published.
REPORT_ADAPTER: Final = TypeAdapter(Report)
