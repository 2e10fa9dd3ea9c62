"""Gates: what a run may change at most, so that its candidate is promoted without a second look. Pure."""

from dataclasses import dataclass
from typing import Final

from consumer.runs.comparison import MICROS, Comparison

#: A level is a quarter of the score, so a jump of 2 is half of the whole scale.
_JUMP: Final = 2


@dataclass(frozen=True, slots=True)
class Gates:
    """Limits of a comparison; shares are 0..1. The defaults fit a model that was trained anew for the same task."""

    #: Of the photos that are compared: fewer say too little. Of 1,000, a share of 2 % is known to 1 % or so.
    min_photos: int = 1_000
    #: Photos whose level changes by 2 or more: rare between two honest models, common after a mistake in preparation.
    max_level_jumps: float = 0.02
    #: Of the photos with brands, those that lose all of them: advertisers see each as one photo fewer.
    max_brands_lost: float = 0.05
    #: Mean change of the score, up or down; 0.05 is a fifth of a level, on every photo.
    max_mean_shift: float = 0.05
    #: Photos that could not be judged: they keep their tags of before, beside the new ones of all others.
    max_not_judged: float = 0.05


@dataclass(frozen=True, slots=True)
class Violation:
    """A gate that does not hold."""

    #: The limit's name among the limits.
    gate: str
    #: What the run has.
    value: float
    #: What it may have.
    limit: float
    #: Both in a plain line.
    text: str

    def __str__(self) -> str:
        return self.text


def level_jumps(comparison: Comparison) -> int:
    """The photos whose level changes by 2 or more."""
    return sum(photos for (was, now), photos in comparison.levels.items() if abs(was - now) >= _JUMP)


def gates(comparison: Comparison, limits: Gates) -> list[Violation]:
    """The gates that do not hold, in the order of `Gates`; none if the candidate may be promoted.

    The shares are those of the run's own photos, without intervals: these photos are the ones that will change.
    """
    counts = comparison.counts
    compared, not_judged = counts["compared"], counts["not_judged"]
    answered = counts["judged"] + not_judged
    jumps, lost = level_jumps(comparison), counts["loses_all_brands"]
    found = (
        _too_few(compared, limits.min_photos),
        _share("max_level_jumps", jumps, compared, "change their level by 2 or more", limits.max_level_jumps),
        _share("max_brands_lost", lost, counts["had_brands"], "with brands lose all of them", limits.max_brands_lost),
        _shift(comparison.shift.mean(), limits.max_mean_shift),
        _share("max_not_judged", not_judged, answered, "could not be judged", limits.max_not_judged),
    )
    return [violation for violation in found if violation is not None]


def _too_few(photos: int, limit: int) -> Violation | None:
    text = f"{photos:,} photos are compared; at least {limit:,} must be"
    return Violation("min_photos", photos, limit, text) if photos < limit else None


def _share(gate: str, count: int, of: int, what: str, limit: float) -> Violation | None:
    if not of or count / of <= limit:
        return None
    text = f"{count:,} of {of:,} photos {what} ({_percent(count / of)}); at most {_percent(limit)} may"
    return Violation(gate, count / of, limit, text)


def _shift(mean_micros: float | None, limit: float) -> Violation | None:
    # Without the rest that a division leaves: a shift of exactly the limit is allowed.
    value = round((mean_micros or 0) / MICROS, 9)
    text = f"the mean quality score moves by {value:+.4g}; at most {limit:g}, up or down, is allowed"
    return Violation("max_mean_shift", value, limit, text) if abs(value) > limit else None


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
