"""Figures of a brand model: by argmax, then at the published threshold, beside two models that look at nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.evaluation.answers import Answers, Figure
from training.statistics import (
    Flags,
    Floats,
    Interval,
    Ints,
    Texts,
    average_precision,
    bootstrap,
    brier,
    share,
    top_reliability,
    wilson,
)

#: The slice that tells photos without a brand apart: clean, look-alike, foreign.
ORIGIN: Final = "origin"
BASELINES: Final = ("always no_logo", "majority")


@dataclass(frozen=True, slots=True)
class BrandView:
    """What the figures need of answers; the last class is no_logo."""

    probabilities: Floats
    labels: Ints
    #: Of a photo without a brand: where it comes from.
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
        """The tag: the brand where the score reaches the threshold, else no_logo."""
        return np.where(self.score >= self.threshold, self.brand, self.no_logo)

    def take(self, which: Ints | Flags) -> "BrandView":
        """The rows at some indices."""
        return BrandView(self.probabilities[which], self.labels[which], self.origins[which], self.threshold)


def view(answers: Answers, temperature: float, threshold: float) -> BrandView:
    """The view of answers at a temperature and a threshold."""
    origins = answers.slices.get(ORIGIN, np.full(len(answers), ""))
    return BrandView(answers.probabilities(temperature), answers.labels, origins, threshold)


def figure_name(origin: str) -> str:
    """`look-alike` as part of a figure's name."""
    return origin.replace("-", "_").replace(" ", "_")


def point_values(seen: BrandView, brands: Ints, origins: tuple[str, ...]) -> dict[str, float]:
    """Every headline value of one set of photos.

    Args:
        seen: The photos.
        brands: Classes whose recalls are averaged; those that a sample lacks are left out.
        origins: Kinds of photos without a brand that get a rate of their own.
    """
    predicted, decided, labels = seen.probabilities.argmax(1), seen.decided, seen.labels
    branded = labels != seen.no_logo
    hits = predicted == labels
    counts = np.bincount(labels, minlength=seen.no_logo + 1)[brands]
    recalls = np.bincount(labels[hits], minlength=seen.no_logo + 1)[brands][counts > 0] / counts[counts > 0]
    tagged = decided != seen.no_logo
    values = {
        "accuracy": share(hits),
        "macro_recall": float(recalls.mean()) if len(recalls) else float("nan"),
        "worst_brand_recall": float(recalls.min()) if len(recalls) else float("nan"),
        "fpr_no_logo": share((predicted != seen.no_logo)[~branded]),
        "tagged_precision": share((decided == labels)[tagged]),
        "tagged_recall": share((decided == labels)[branded]),
        "tagged_fpr_no_logo": share(tagged[~branded]),
        "calibration_error": top_reliability(seen.probabilities, labels).error,
        "brier": brier(seen.probabilities, labels),
    }
    for origin in origins:
        quiet = ~branded & (seen.origins == origin)
        values[f"fpr_{figure_name(origin)}"] = share((predicted != seen.no_logo)[quiet])
        values[f"tagged_fpr_{figure_name(origin)}"] = share(tagged[quiet])
    return values


def origins_of(seen: BrandView) -> tuple[str, ...]:
    """Kinds of photos without a brand, where the data tells them apart."""
    quiet = seen.origins[seen.labels == seen.no_logo]
    return tuple(sorted({str(origin) for origin in quiet} - {""}))


def baseline_views(seen: BrandView, majority: int) -> dict[str, BrandView]:
    """Two models that look at nothing: always no_logo, and always the most frequent label of validation."""
    return {
        name: BrandView(_one_hot(len(seen.labels), seen.no_logo + 1, label), seen.labels, seen.origins, seen.threshold)
        for name, label in zip(BASELINES, (seen.no_logo, majority), strict=True)
    }


def _one_hot(rows: int, classes: int, label: int) -> Floats:
    made = np.zeros((rows, classes))
    made[:, label] = 1
    return made


def figures(seen: BrandView, groups: Texts, majority: int) -> dict[str, Figure]:
    """Headline figures with bootstrap intervals by group, and both baselines' values."""
    brands = np.unique(seen.labels[seen.labels != seen.no_logo])
    origins = origins_of(seen)
    values = point_values(seen, brands, origins)
    intervals = bootstrap(lambda which: point_values(seen.take(which), brands, origins), groups)
    others = {name: point_values(other, brands, origins) for name, other in baseline_views(seen, majority).items()}
    return {
        name: Figure(
            value, intervals[name].low, intervals[name].high, {other: found[name] for other, found in others.items()}
        )
        for name, value in values.items()
    }


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
    #: How often argmax named it; never although it is there: the model does not know this brand.
    predicted: int


def rows(seen: BrandView, names: tuple[str, ...]) -> list[BrandRow]:
    """One row a brand, no_logo left out, with Wilson's intervals."""
    predicted, decided = seen.probabilities.argmax(1), seen.decided
    made = []
    for index, name in enumerate(names[:-1]):
        mine = seen.labels == index
        hits, tags, total = int((predicted == index)[mine].sum()), int((decided == index)[mine].sum()), int(mine.sum())
        made.append(
            BrandRow(
                name,
                total,
                hits / total if total else float("nan"),
                wilson(hits, total),
                tags / total if total else float("nan"),
                wilson(tags, total),
                share(mine[decided == index]),
                average_precision(seen.probabilities[:, index], mine),
                int((predicted == index).sum()),
            )
        )
    return made


def confusion(labels: Ints, predicted: Ints, classes: int) -> Ints:
    """Counts [true, predicted]."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def never_predicted(labels: Ints, predicted: Ints, names: tuple[str, ...]) -> list[str]:
    """Classes that the photos show and the model never names: it collapsed, or was never taught them."""
    there, named = set(labels.tolist()), set(predicted.tolist())
    return [name for index, name in enumerate(names) if index in there and index not in named]


def tag_rates(seen: BrandView, names: tuple[str, ...]) -> Mapping[str, float]:
    """Share of photos that get each tag, no_logo for none: what drift in service is compared with."""
    counts = np.bincount(seen.decided, minlength=len(names))
    return {name: float(count / max(1, len(seen.labels))) for name, count in zip(names, counts, strict=True)}
