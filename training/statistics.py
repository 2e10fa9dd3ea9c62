"""Statistics of predictions: pure functions over numpy arrays, each tested against scikit-learn or SciPy."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats
from sklearn import metrics

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Texts = NDArray[np.str_]

_REPEATS: Final = 1000
#: Bins of the reliability diagram and of the expected calibration error.
BINS: Final = 15
_LOWEST_TEMPERATURE, _HIGHEST_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


def wilson(hits: int, total: int) -> Interval:
    """Wilson's interval of a proportion; 0..1 without observations."""
    if total == 0:
        return Interval(0.0, 1.0)
    found = stats.binomtest(hits, total).proportion_ci(method="wilson")
    return Interval(float(found.low), float(found.high))


def draws(groups: Texts, repeats: int = _REPEATS, seed: int = 0) -> list[Ints]:
    """Indices of bootstrap samples. Photos of one group (a user, a burst) are drawn together: their errors correlate.

    An empty group name makes the photo a group of its own.
    """
    rng = np.random.default_rng(seed)
    names = np.where(groups == "", np.char.add("\0", np.arange(len(groups)).astype(np.str_)), groups)
    _, which = np.unique(names, return_inverse=True)
    order = np.argsort(which, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(which))[:-1])
    drawn = rng.integers(len(members), size=(repeats, len(members)))
    if len(members) == len(groups):
        return list(order[drawn])
    return [np.concatenate([members[index] for index in row]) for row in drawn]


def bootstrap(
    statistic: Callable[[Ints], Mapping[str, float]], groups: Texts, repeats: int = _REPEATS, seed: int = 0
) -> dict[str, Interval]:
    """Percentile 95 % intervals of every value that `statistic` computes from the photos at given indices.

    Values that are not finite (of a brand that was not drawn) are excluded.
    """
    rows = [statistic(indices) for indices in draws(groups, repeats, seed)]
    found: dict[str, Interval] = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows], np.float64)
        values = values[np.isfinite(values)]
        low, high = np.percentile(values, (2.5, 97.5)) if len(values) else (math.nan, math.nan)
        found[name] = Interval(float(low), float(high))
    return found


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities [N, C] of logits [N, C]."""
    probabilities: Floats = special.softmax(logits / temperature, axis=1)
    return probabilities


def log_loss(logits: Floats, labels: Ints, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the labels."""
    return -float(special.log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """The temperature in 0.05..20 that minimises the log loss of validation labels and of one more, wrong one.

    The wrong one is spread over all photos (as Platt does, 1999), each with the class that comes second: where no photo
    is wrong, the labels alone are best explained by a model that is always sure, which says nothing of other photos.
    """
    wrong = 1 / (len(labels) + 2)
    second = np.argsort(logits, axis=1)[:, -2]

    def loss(log_t: float) -> float:
        temperature = math.exp(log_t)
        return (1 - wrong) * log_loss(logits, labels, temperature) + wrong * log_loss(logits, second, temperature)

    found = optimize.minimize_scalar(
        loss,
        bounds=(math.log(_LOWEST_TEMPERATURE), math.log(_HIGHEST_TEMPERATURE)),
        method="bounded",
    )
    return round(float(math.exp(found.x)), 4)


@dataclass(frozen=True, slots=True)
class Reliability:
    """Per equal-width bin of confidence: number of photos, mean confidence, accuracy."""

    counts: Ints
    confidence: Floats
    accuracy: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy, weighted by photos."""
        gaps = np.abs(self.confidence - self.accuracy) * self.counts
        return float(gaps.sum() / max(1, self.counts.sum()))


def reliability(confidence: Floats, right: Flags) -> Reliability:
    """The reliability diagram in BINS bins; empty bins hold zeros."""
    which = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(which, minlength=BINS).astype(np.int64)
    confidences, hits = (np.bincount(which, values.astype(np.float64), BINS) for values in (confidence, right))
    return Reliability(counts, confidences / np.maximum(counts, 1), hits / np.maximum(counts, 1))


def top_reliability(probabilities: Floats, labels: Ints) -> Reliability:
    """The reliability of the most probable class."""
    return reliability(probabilities.max(1), probabilities.argmax(1) == labels)


def error_by_chance(confidence: Floats, repeats: int = _REPEATS, seed: int = 0) -> float:
    """The calibration error that a perfectly calibrated model stays below on such photos in 97.5 of 100 sets of labels.

    Whether its answers are right is drawn from their own probabilities, photo by photo: on few photos the error of such
    a model is far from 0. Photos of one group are drawn apart, so with large groups it is a lower bound.
    """
    if not len(confidence):
        return math.inf
    rng = np.random.default_rng(seed)
    errors = [reliability(confidence, rng.random(len(confidence)) < confidence).error for _ in range(repeats)]
    return float(np.percentile(errors, 97.5))


def brier(probabilities: Floats, labels: Ints) -> float:
    """Multi-class Brier score, 0..2: the mean squared distance to the one-hot label."""
    missed = probabilities.copy()
    missed[np.arange(len(labels)), labels] -= 1
    return float(np.square(missed).sum(1).mean())


def linear_correlation(left: Floats, right: Floats) -> float:
    """Pearson's correlation; nan where either does not vary."""
    if len(left) < 2 or not np.ptp(left) or not np.ptp(right):
        return math.nan
    return float(np.corrcoef(left, right)[0, 1])


def rank_correlation(left: Floats, right: Floats) -> float:
    """Spearman's correlation; ties share their rank; nan where either does not vary."""
    return linear_correlation(stats.rankdata(left), stats.rankdata(right))


def area_under_roc(scores: Floats, positive: Flags) -> float:
    """Area under the ROC curve; ties count half; nan without positives or without negatives."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return math.nan
    rank_sum = float(stats.rankdata(scores)[positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def precision_recall(scores: Floats, positive: Flags) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and threshold at every distinct score, highest first; empty without positives."""
    if not positive.any():
        return np.empty(0), np.empty(0), np.empty(0)
    precision, recall, thresholds = metrics.precision_recall_curve(positive, scores)
    return precision[-2::-1], recall[-2::-1], thresholds[::-1]


def average_precision(scores: Floats, positive: Flags) -> float:
    """Area under the precision-recall steps; nan without positives."""
    return float(metrics.average_precision_score(positive, scores)) if positive.any() else math.nan


def share(flags: Flags) -> float:
    """Mean of flags; nan of none."""
    return float(flags.mean()) if len(flags) else math.nan
