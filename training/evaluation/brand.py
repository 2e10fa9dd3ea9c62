"""Figures of a brand model: by argmax, then at the published threshold, beside two constant baselines."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from training.evaluation.answers import Answers, Figure, measured
from training.serving.decision import decided
from training.statistics import (
    Flags,
    Floats,
    Interval,
    Ints,
    Texts,
    average_precision,
    brier,
    share,
    top_reliability,
    wilson,
)

#: The slice with the kind of a photo without a brand: ordinary, clean (drawn), look-alike, foreign.
ORIGIN: Final = "origin"
LOOK_ALIKE: Final = "look-alike"
DRAWN: Final = "clean"
BASELINES: Final = ("always no_logo", "majority")


@dataclass(frozen=True, slots=True)
class BrandView:
    """Probabilities and labels at a threshold; the last class is no_logo."""

    probabilities: Floats
    labels: Ints
    #: Of a photo without a brand: which kind it is.
    origins: Texts
    threshold: float

    @property
    def no_logo(self) -> int:
        """Index of the last class."""
        return int(self.probabilities.shape[1]) - 1

    @property
    def score(self) -> Floats:
        """The highest probability of any brand."""
        best: Floats = self.probabilities[:, : self.no_logo].max(1)
        return best

    @property
    def brand(self) -> Ints:
        """The most probable brand, whether or not no_logo is more probable."""
        best: Ints = self.probabilities[:, : self.no_logo].argmax(1)
        return best

    @property
    def decided(self) -> Ints:
        """The tag of each photo."""
        return decided(self.probabilities, self.threshold)

    @property
    def ordinary(self) -> Flags:
        """Whether a photo shows neither a brand nor a look-alike of one; drawn ones count only where no others are.

        Models claim real photos far more often than drawn ones, whose number would hide it.
        """
        plain: Flags = (self.labels == self.no_logo) & (self.origins != LOOK_ALIKE)
        real: Flags = plain & (self.origins != DRAWN)
        return real if real.any() else plain

    def take(self, which: Ints | Flags) -> "BrandView":
        """The rows at some indices."""
        return BrandView(self.probabilities[which], self.labels[which], self.origins[which], self.threshold)


def view(answers: Answers, temperature: float, threshold: float) -> BrandView:
    """The view of answers at a temperature and a threshold."""
    origins = answers.slices.get(ORIGIN, np.full(len(answers), ""))
    return BrandView(answers.probabilities(temperature), answers.labels, origins, threshold)


def point_values(seen: BrandView, brands: Ints, origins: tuple[str, ...]) -> dict[str, float]:
    """Every headline value of one set of photos.

    Args:
        seen: The photos.
        brands: Classes whose recalls are averaged; those that a sample lacks are left out.
        origins: Kinds of photos without a brand that get a false positive rate each.
    """
    predicted, tags, labels = seen.probabilities.argmax(1), seen.decided, seen.labels
    branded = labels != seen.no_logo
    hits = predicted == labels
    counts = np.bincount(labels, minlength=seen.no_logo + 1)[brands]
    recalls = np.bincount(labels[hits], minlength=seen.no_logo + 1)[brands][counts > 0] / counts[counts > 0]
    tagged = tags != seen.no_logo
    values = {
        "accuracy": share(hits),
        "macro_recall": float(recalls.mean()) if len(recalls) else float("nan"),
        "worst_brand_recall": float(recalls.min()) if len(recalls) else float("nan"),
        "fpr_no_logo": share((predicted != seen.no_logo)[~branded]),
        "tagged_precision": share((tags == labels)[tagged]),
        "tagged_recall": share((tags == labels)[branded]),
        "tagged_fpr_no_logo": share(tagged[~branded]),
        "calibration_error": top_reliability(seen.probabilities, labels).error,
        "brier": brier(seen.probabilities, labels),
    }
    for origin in origins:
        quiet, name = ~branded & (seen.origins == origin), origin.replace("-", "_").replace(" ", "_")
        values[f"fpr_{name}"] = share((predicted != seen.no_logo)[quiet])
        values[f"tagged_fpr_{name}"] = share(tagged[quiet])
    return values


def figures(seen: BrandView, groups: Texts, majority: int) -> dict[str, Figure]:
    """Headline figures with bootstrap intervals by group, and the baselines' values.

    The baselines predict one class for every photo: no_logo, or `majority`, the most frequent label of validation.
    """
    quiet = seen.labels == seen.no_logo
    brands = np.unique(seen.labels[~quiet])
    origins = tuple(sorted({str(origin) for origin in seen.origins[quiet]} - {""}))
    constant = np.eye(seen.no_logo + 1)
    baselines = {
        name: replace(seen, probabilities=np.tile(constant[label], (len(quiet), 1)))
        for name, label in zip(BASELINES, (seen.no_logo, majority), strict=True)
    }
    return measured(
        lambda which: point_values(seen.take(which), brands, origins),
        groups,
        {name: point_values(other, brands, origins) for name, other in baselines.items()},
    )


@dataclass(frozen=True, slots=True)
class BrandRow:
    """One brand on test photos."""

    brand: str
    photos: int
    recall: float
    recall_interval: Interval
    tagged_recall: float
    tagged_recall_interval: Interval
    tagged_precision: float
    average_precision: float
    #: How often argmax predicted it; 0 although test photos show it: the model has not learned this brand.
    predicted: int


def rows(seen: BrandView, names: tuple[str, ...]) -> list[BrandRow]:
    """One row a brand, no_logo left out, with Wilson's intervals."""
    predicted, tagged = seen.probabilities.argmax(1), seen.decided
    made = []
    for index, name in enumerate(names[:-1]):
        mine = seen.labels == index
        hits, tags, total = (predicted == index)[mine], (tagged == index)[mine], int(mine.sum())
        made.append(
            BrandRow(
                name,
                total,
                share(hits),
                wilson(int(hits.sum()), total),
                share(tags),
                wilson(int(tags.sum()), total),
                share(mine[tagged == index]),
                average_precision(seen.probabilities[:, index], mine),
                int((predicted == index).sum()),
            )
        )
    return made


def confusion(labels: Ints, predicted: Ints, classes: int) -> Ints:
    """Counts [true, predicted]."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def never_predicted(labels: Ints, predicted: Ints, names: tuple[str, ...]) -> list[str]:
    """Classes that are among the labels and never predicted: the model collapsed, or never learned them."""
    there, named = set(labels.tolist()), set(predicted.tolist())
    return [name for index, name in enumerate(names) if index in there and index not in named]


def tag_rates(seen: BrandView, names: tuple[str, ...]) -> Mapping[str, float]:
    """Share of photos that get each tag, no_logo for none: the baseline for drift in service."""
    counts = np.bincount(seen.decided, minlength=len(names))
    return {name: float(count / max(1, len(seen.labels))) for name, count in zip(names, counts, strict=True)}
