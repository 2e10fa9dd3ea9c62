"""Evaluation of a head on held-out photos, and the gate's decision."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.data.photos import LEVELS, Photo
from training.evaluation import brand, quality
from training.evaluation.answers import Figure, measured
from training.evaluation.outcome import Evaluation
from training.heads.features import Features
from training.heads.served import quality_of
from training.publish import gate
from training.statistics import Floats, Ints, Texts, error_by_chance, top_reliability

LABELS = tuple(str(level) for level in LEVELS)


@dataclass(frozen=True, slots=True)
class SplitFeatures:
    """The rated photos of a split with their features."""

    photos: Sequence[Photo]
    features: Features

    @property
    def ratings(self) -> Floats:
        """1..5, fractions allowed."""
        return np.array([photo.rating or 0.0 for photo in self.photos], np.float64)

    @property
    def labels(self) -> Ints:
        """The nearest level - 1."""
        return quality.levels_of(self.ratings)

    @property
    def groups(self) -> Texts:
        """The errors of photos of one group are correlated."""
        return np.array([photo.group for photo in self.photos], np.str_)


@dataclass(frozen=True, slots=True)
class HeadEvaluation:
    """A head's figures on test photos at the threshold that val chose, and the gate's decision."""

    threshold: float
    figures: dict[str, Figure]
    decision: gate.GateDecision


def view_of(estimator: Any, side: SplitFeatures, threshold: float) -> quality.QualityView:  # noqa: ANN401 - scikit-learn
    """A head's predictions as those of the served model."""
    _, levels = quality_of(estimator.predict_proba(np.asarray(side.features)))
    return quality.QualityView(levels, side.labels, side.ratings, threshold)


def crossing(photos: Sequence[Photo]) -> dict[str, int]:
    """How many users, and how many files, are in more than one split."""
    return {
        "users_in_several_splits": _in_several((photo.group, photo.split) for photo in photos if photo.group),
        "files_in_several_splits": _in_several((photo.sha256, photo.split) for photo in photos),
    }


def _in_several(pairs: Iterable[tuple[str, str | None]]) -> int:
    splits: dict[str, set[str | None]] = defaultdict(set)
    for key, split in pairs:
        splits[key].add(split)
    return sum(len(found) > 1 for found in splits.values())


def evaluate(estimator: Any, train: Sequence[Photo], val: SplitFeatures, test: SplitFeatures) -> HeadEvaluation:  # noqa: ANN401 - as above
    """Chooses the threshold on val, measures once on test, and asks the gate, which checks the splits for leaks too."""
    threshold = quality.best_threshold(view_of(estimator, val, 0.0))
    seen = view_of(estimator, test, threshold)
    figures, confidence = quality.figures(seen, test.groups, val.labels), seen.probabilities.max(1)
    if len(estimator.classes_) == 2:
        figures = {**figures, "calibration_error": _calibration(seen, test.groups)}
        sure = seen.score[quality.sides_of(seen.ratings)[1]]
        confidence = np.maximum(sure, 1 - sure)
    chance, alarms = error_by_chance(confidence), tuple(_alarms(estimator, seen))
    evaluation = Evaluation("quality", LABELS, figures=figures, error_by_chance=chance, alarms=alarms)
    leaks = sum(crossing((*train, *val.photos, *test.photos)).values())
    return HeadEvaluation(threshold, figures, gate.GateDecision(tuple(gate.absolute(evaluation, {"left": leaks}))))


def _calibration(seen: quality.QualityView, groups: Texts) -> Figure:
    """Calibration error of P(good) on photos that are good or poor: a binary head does not predict levels."""
    good, either = quality.sides_of(seen.ratings)

    def error(which: Ints) -> dict[str, float]:
        taken = which[either[which]]
        score = seen.score[taken]
        found = top_reliability(np.stack((1 - score, score), 1), good[taken].astype(np.int64))
        return {"error": found.error}

    return measured(error, groups, {name: {"error": float("nan")} for name in quality.BASELINES})["error"]


def _alarms(estimator: Any, seen: quality.QualityView) -> list[str]:  # noqa: ANN401 - as above
    if len(estimator.classes_) == len(LEVELS):
        never = brand.never_predicted(seen.labels, seen.probabilities.argmax(1), LABELS)
        return [f"level {name} is never predicted" for name in never]
    good, either = quality.sides_of(seen.ratings)
    never = brand.never_predicted(good[either].astype(np.int64), seen.decided[either], ("poor", "good"))
    return [f"{name} is never predicted" for name in never]
