"""Thresholds: chosen on validation photos for a target precision, then frozen and verified on test photos."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from training.statistics import Flags, Floats, Interval, share, wilson

#: Thresholds are a hundredth apart, and above 0.99, where a model that is sure decides, a thousandth.
_STEPS: Final = (*(step / 100 for step in range(1, 100)), *(step / 1000 for step in range(991, 1000)))
_SPLIT_STEP: Final = 0.01


@dataclass(frozen=True, slots=True)
class Target:
    """What a brand threshold must reach on validation photos.

    The lower bound of the precision counts, not its estimate, which varies by points over a few hundred photos. The
    rate of tagged photos without a logo is far below what is wanted in service, because service sees other photos. Most
    of those are ordinary photos, so that these may be tagged even less often than look-alikes of the brands.

    Where there are so few that not even a faultless answer could show it, the estimate counts after all, and the target
    is not met: some hundred photos of brands are needed.

    Where validation photos are so easy that the lowest threshold tags none without a brand, they do not tell how low it
    may be: it is then raised as far as that costs `spare` of their recall, but not above `raised`: photos that are less
    like those of training get lower probabilities, and would lose their tags.
    """

    precision: float = 0.96
    no_logo_rate: float = 0.005
    lowest: float = 0.5
    highest: float = 0.999
    ordinary_rate: float = 0.001
    spare: float = 0.02
    raised: float = 0.8


@dataclass(frozen=True, slots=True)
class Tagging:
    """Metrics of a threshold on one set of photos."""

    threshold: float
    tagged: int
    precision: float
    #: Wilson's interval of the precision.
    interval: Interval
    #: Share of photos with a brand that were tagged with that brand.
    recall: float
    #: Share of photos without one that were tagged all the same.
    no_logo_rate: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen threshold with its metrics on validation photos, and whether the target was reached."""

    tagging: Tagging
    target: Target
    met: bool
    #: Whether there were too few photos with a brand to show the precision.
    few: bool = False


def tagging(score: Floats, right: Flags, branded: Flags, threshold: float) -> Tagging:
    """The metrics of a threshold.

    Args:
        score: The highest probability of any brand.
        right: Whether that brand is the photo's.
        branded: Whether the photo shows a brand.
        threshold: Photos whose score reaches it are tagged.
    """
    tagged = score >= threshold
    hits = right[tagged]
    return Tagging(
        threshold,
        len(hits),
        share(hits),
        wilson(int(hits.sum()), len(hits)),
        share((tagged & right)[branded]),
        share(tagged[~branded]),
    )


def sweep(score: Floats, right: Flags, branded: Flags, lowest: float, highest: float) -> list[Tagging]:
    """The metrics of every threshold of _STEPS, lowest first."""
    return [tagging(score, right, branded, step) for step in _STEPS if lowest <= step <= highest]


def choose(score: Floats, right: Flags, branded: Flags, ordinary: Flags, target: Target) -> Choice:
    """The lowest threshold whose precision bound and no-logo rates reach the target, or the highest one, not met.

    If nothing limits it, a higher one of nearly the same recall; see Target.

    Args:
        score: The highest probability of any brand.
        right: Whether that brand is the photo's.
        branded: Whether the photo shows a brand.
        ordinary: Whether it shows neither a brand nor a look-alike.
        target: What to reach.
    """
    options = sweep(score, right, branded, target.lowest, target.highest)
    most = int(branded.sum())
    few = wilson(most, most).low < target.precision

    def reaches(option: Tagging) -> bool:
        claimed = share(score[ordinary] >= option.threshold)
        # nan, where there is no such photo, is no more than any rate
        loud = option.no_logo_rate > target.no_logo_rate or claimed > target.ordinary_rate
        return (option.precision if few else option.interval.low) >= target.precision and not loud

    lowest = next((option for option in options if reaches(option)), None)
    if lowest is None:
        return Choice(options[-1], target, met=False, few=few)
    if lowest is options[0] and not lowest.no_logo_rate > 0:
        least = lowest.recall * (1 - target.spare)
        end = max(target.raised, lowest.threshold)
        near = (option for option in options if option.threshold <= end and option.recall >= least)
        lowest = [option for option in near if reaches(option)][-1]
    return Choice(lowest, target, met=not few, few=few)


def best_split(scores: Floats, good: Flags) -> float:
    """The score, in steps of 0.01, that tells good photos from poor ones.

    It is the middle of those whose balanced accuracy is within a standard error of the highest: which is the highest
    changes from one set of photos to the next, where few of them are poor.
    """
    candidates = np.round(np.arange(0.2, 0.805, _SPLIT_STEP), 2)
    kept = np.array([share(scores[good] >= c) for c in candidates])
    left = np.array([share(scores[~good] < c) for c in candidates])
    rates = (kept + left) / 2
    if not np.isfinite(rates).any():
        return 0.5
    best = int(np.nanargmax(rates))
    variance = kept[best] * (1 - kept[best]) / good.sum() + left[best] * (1 - left[best]) / (~good).sum()
    return round(float(candidates[rates >= rates[best] - variance**0.5 / 2].mean()), 2)
