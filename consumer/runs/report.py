"""The report of a run: every number of its comparison, named. Pure.

These classes are the contract of the JSON report: their fields are its keys, and its JSON Schema is made from them. The
page shows the same report. Scores and shares are 0..1, times in milliseconds.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import TypeAdapter

from consumer.releases import Decision, ModelVersion
from consumer.runs.comparison import Example
from consumer.runs.figures import Share
from consumer.runs.gates import Gates, Violation
from consumer.tags import Bounds, Brand, Quality
from consumer.tags import Share as Unit

DIFF: Final = "run.diff"

Count = Annotated[int, Bounds(ge=0)]
#: A difference of two scores.
Shift = Annotated[float, Bounds(ge=-1, le=1)]


@dataclass(frozen=True, slots=True)
class Judges:
    """Which version of each model judges, and with which thresholds."""

    #: The number of that decision; null of a candidate, which has none until it is promoted.
    release: Count | None
    #: What judges how good a photo is.
    quality: ModelVersion
    #: What judges which brands it shows.
    brand: ModelVersion
    #: The thresholds.
    decision: Decision


@dataclass(frozen=True, slots=True)
class RunHeader:
    """What a run is: its candidate, the release that was in force at its start, and who started it."""

    #: Its name.
    run_id: str
    #: What judges in this run.
    candidate: Judges
    #: What was in force at its start.
    in_force: Judges
    #: Which photos it is over, for a person.
    photos: str
    #: When it was started.
    started_at: datetime
    #: Who started it.
    by: str
    #: How long it worked; null if that is not known.
    seconds: Annotated[float, Bounds(ge=0)] | None


@dataclass(frozen=True, slots=True)
class Photos:
    """How many photos: answers are judged or not judged; of the judged, those are compared that have tags of before."""

    #: Photos with an answer: judged and not judged ones.
    answers: Count
    #: Photos that the candidate judged.
    judged: Count
    #: Photos that it could not judge.
    not_judged: Count
    #: Judged photos that had no tags in force.
    not_tagged_before: Count
    #: Judged photos that had those of another upload in force.
    other_content: Count
    #: Judged photos that had tags of the same upload in force: what this report compares.
    compared: Count


@dataclass(frozen=True, slots=True)
class Changes:
    """Of the photos that are compared, how many change and in which direction; one photo may be in several."""

    #: Level, verdict or brands change.
    any: Share
    #: The level rises.
    higher_level: Share
    #: The level falls.
    lower_level: Share
    #: The level changes by 2 or more.
    level_jumps: Share
    #: It is good after and not before.
    becomes_good: Share
    #: It is good before and not after.
    no_longer_good: Share
    #: It shows a brand after that it did not show before.
    gains_brands: Share
    #: It showed a brand before that it does not show after.
    loses_brands: Share
    #: It shows no brand after; of the photos that showed one before.
    loses_all_brands: Share


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of the photos that are compared, how many have the same level, verdict (good or not), set of brands, and all."""

    #: The same level.
    level: Share
    #: Good before and after, or neither.
    good: Share
    #: The same set of brands.
    brands: Share
    #: All of these.
    all: Share


@dataclass(frozen=True, slots=True)
class Quantiles:
    """The values that 5, 25, 50, 75 and 95 of 100 photos do not exceed, to a thousandth."""

    #: That 5 of 100 do not exceed.
    p5: Shift
    #: That 25 of 100 do not exceed.
    p25: Shift
    #: That half do not exceed.
    p50: Shift
    #: That 75 of 100 do not exceed.
    p75: Shift
    #: That 95 of 100 do not exceed.
    p95: Shift


@dataclass(frozen=True, slots=True)
class QualityShift:
    """The quality scores before and after, and their difference; null of no photos."""

    #: The mean score before.
    mean_before: Unit | None
    #: The mean score after.
    mean_after: Unit | None
    #: The mean of the score after minus the score before.
    mean_shift: Shift | None
    #: Quantiles of the score before.
    before: Quantiles | None
    #: Quantiles of the score after.
    after: Quantiles | None
    #: Quantiles of the score after minus the score before.
    shift: Quantiles | None
    #: Photos by their score before, in 40 bars of equal width from 0 to 1.
    histogram_before: tuple[Count, ...]
    #: Photos by their score after, in the same bars.
    histogram_after: tuple[Count, ...]
    #: A row for each level before, 1 to 5, with the counts of the levels after.
    levels: tuple[tuple[Count, ...], ...]


@dataclass(frozen=True, slots=True)
class SliceRow:
    """Photos that have something in common."""

    #: What they have in common.
    name: str
    #: How many are compared.
    photos: Count
    #: How far their mean score moves.
    mean_shift: Shift
    #: How many keep level, verdict and brands.
    unchanged: Share


@dataclass(frozen=True, slots=True)
class BrandRow:
    """The photos that show one brand before or after."""

    #: Its name.
    brand: str
    #: How many show it before or after.
    photos: Count
    #: How far their mean score moves.
    mean_shift: Shift
    #: How many keep level, verdict and brands.
    unchanged: Share
    #: How many show it before.
    before: Count
    #: How many show it after.
    after: Count
    #: How many show it only after.
    gained: Count
    #: How many show it only before.
    lost: Count


@dataclass(frozen=True, slots=True)
class Slices:
    """The photos that are compared, parted by level before, by format and by age at the start of the run."""

    #: By level before.
    level: tuple[SliceRow, ...]
    #: By the format of the file.
    format: tuple[SliceRow, ...]
    #: By age at the start of the run.
    age: tuple[SliceRow, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What tags say of a photo."""

    #: How good it is.
    quality: Quality
    #: The brands that it shows.
    brands: tuple[Brand, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A photo that changes much."""

    #: The photo.
    photo_id: str
    #: The URI of its upload; null where the run did not read it.
    uri: str | None
    #: How far its score moves or, for brands, how far the probability of a brand that is gained or lost moves, of the
    #: one that moves most.
    size: Unit
    #: What the tags in force say.
    before: Verdict
    #: What the candidate says.
    after: Verdict


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest changes of each kind, at most 24, the largest first."""

    #: Scores that rise.
    quality_up: tuple[Change, ...]
    #: Scores that fall.
    quality_down: tuple[Change, ...]
    #: Brands that are shown only after.
    brands_gained: tuple[Change, ...]
    #: Brands that are shown only before.
    brands_lost: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class NotJudged:
    """Why photos could not be judged."""

    #: A reason of dead letters.
    reason: str
    #: How many photos.
    photos: Count
    #: At most 8 of them, drawn by chance.
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Latency:
    """The times from fetch to scores of judged photos, in milliseconds, to a hundredth of each."""

    #: That half do not exceed.
    p50_ms: Annotated[float, Bounds(ge=0)]
    #: That 95 of 100 do not exceed.
    p95_ms: Annotated[float, Bounds(ge=0)]
    #: That 99 of 100 do not exceed.
    p99_ms: Annotated[float, Bounds(ge=0)]


@dataclass(frozen=True, slots=True)
class GateState:
    """Whether the run may be promoted as it is, the limits, and each one that does not hold."""

    #: Whether all hold.
    hold: bool
    #: The limits.
    limits: Gates
    #: Each that does not hold.
    violations: tuple[Violation, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What the candidate of a run changes."""

    #: What this document is.
    kind: Literal["run.diff"]
    #: The version of this schema.
    version: Literal[1]
    #: What the run is.
    run: RunHeader
    #: Whether it may be promoted as it is.
    gates: GateState
    #: How many photos.
    photos: Photos
    #: How many change, and in which direction.
    changes: Changes
    #: How many stay the same.
    agreement: Agreement
    #: The scores before and after.
    quality: QualityShift
    #: Each brand.
    brands: tuple[BrandRow, ...]
    #: Parts of the photos.
    slices: Slices
    #: The largest changes.
    largest: Largest
    #: Why photos could not be judged.
    not_judged: tuple[NotJudged, ...]
    #: How long judging took; null of no photos.
    latency: Latency | None
    #: Answers in a second; null if it is not known how long the run worked.
    photos_per_s: Annotated[float, Bounds(ge=0)] | None


#: Its JSON Schema is published.
REPORT_ADAPTER: Final = TypeAdapter(Report)
