"""Figures of a quality model: rank correlation, levels, good against poor, beside two constant baselines."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from training.data.photos import LEVELS
from training.evaluation.answers import Answers, Figure, measured
from training.evaluation.thresholds import best_split
from training.statistics import (
    Flags,
    Floats,
    Ints,
    Texts,
    area_under_roc,
    brier,
    linear_correlation,
    rank_correlation,
    share,
    top_reliability,
)

#: Ratings counted as good and as poor; those between are neither.
GOOD_LEVEL, POOR_LEVEL = 3.5, 2.5
BASELINES: Final = ("mean rating", "majority level")


@dataclass(frozen=True, slots=True)
class QualityView:
    """Probabilities [N, levels], labels and ratings at a threshold."""

    probabilities: Floats
    labels: Ints
    ratings: Floats
    threshold: float

    @property
    def score(self) -> Floats:
        """The served score of each photo."""
        return score_of(self.probabilities)

    @property
    def decided(self) -> Ints:
        """The decision: 1 is good."""
        return (self.score >= self.threshold).astype(np.int64)

    def take(self, which: Ints | Flags) -> "QualityView":
        """The rows at some indices."""
        return QualityView(self.probabilities[which], self.labels[which], self.ratings[which], self.threshold)


def score_of(probabilities: Floats) -> Floats:
    """(expected level - 1) / (levels - 1) of each row [N, levels], 0..1: the served score."""
    score: Floats = probabilities @ np.linspace(0, 1, probabilities.shape[1])
    return score


def levels_of(ratings: Floats) -> Ints:
    """The nearest level of each rating, as a class index from 0."""
    return np.clip(np.rint(ratings), LEVELS[0], LEVELS[-1]).astype(np.int64) - 1


def sides_of(ratings: Floats) -> tuple[Flags, Flags]:
    """Which photos are good, and which are good or poor; those between are neither."""
    good = ratings >= GOOD_LEVEL
    return good, good | (ratings <= POOR_LEVEL)


def best_threshold(seen: QualityView) -> float:
    """The score that tells good from poor photos with the highest balanced accuracy, as `best_split` finds it."""
    good, sided = sides_of(seen.ratings)
    return best_split(seen.score[sided], good[sided])


def view(answers: Answers, temperature: float, threshold: float) -> QualityView:
    """The view of answers at a temperature and a threshold."""
    return QualityView(answers.probabilities(temperature), answers.labels, answers.targets, threshold)


def point_values(seen: QualityView) -> dict[str, float]:
    """Every headline value of one set of photos."""
    miss = np.abs(seen.probabilities.argmax(1) - seen.labels)
    (good, sided), score = sides_of(seen.ratings), seen.score
    return {
        "srcc": rank_correlation(score, seen.ratings),
        "plcc": linear_correlation(score, seen.ratings),
        "auc": area_under_roc(score[sided], good[sided]),
        "binary_accuracy": share((seen.decided[sided] == 1) == good[sided]),
        "good_precision": share(good[sided & (seen.decided == 1)]),
        "accuracy": share(miss == 0),
        "within_one": share(miss <= 1),
        "mean_absolute_error": float(np.abs(1 + score * (seen.probabilities.shape[1] - 1) - seen.ratings).mean()),
        "calibration_error": top_reliability(seen.probabilities, seen.labels).error,
        "brier": brier(seen.probabilities, seen.labels),
    }


def figures(seen: QualityView, groups: Texts, validation_labels: Ints) -> dict[str, Figure]:
    """Headline figures with bootstrap intervals by group, and the baselines' values.

    The baselines give every photo the level shares of validation, or its most frequent level.
    """
    classes = seen.probabilities.shape[1]
    shares = np.bincount(validation_labels, minlength=classes) / max(1, len(validation_labels))
    rows = zip(BASELINES, (shares, np.eye(classes)[int(shares.argmax())]), strict=True)
    baselines = {name: replace(seen, probabilities=np.tile(row, (len(seen.labels), 1))) for name, row in rows}
    return measured(
        lambda which: point_values(seen.take(which)),
        groups,
        {name: point_values(other) for name, other in baselines.items()},
    )
