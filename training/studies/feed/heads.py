"""The study's heads on frozen features: a new last layer, PCA and SVM, a one-class SVM with its sweep of gamma."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure as Canvas
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, OneClassSVM

from training.data.photos import TEST, TRAIN, VAL
from training.errors import DataError
from training.heads.features import Features
from training.heads.novelty import CalibratedNovelty
from training.statistics import Ints, area_under_roc, wilson
from training.studies.frozen_features import FrozenFeatures
from training.studies.pictures import BLUE, GREY, ORANGE, plot
from training.studies.study import Figure

LAYER, SVM, ONE_CLASS = "layer", "svm", "one-class"
#: The study's values.
COMPONENTS, C, GAMMA, NU = 512, 0.4, 0.011, 0.08
_GAMMAS: Final = (*(float(f"{value:.4g}") for value in np.geomspace(1e-4, 1.0, 17)), GAMMA)
Sided = tuple[Features, Ints]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Area under ROC for each gamma, on the photos that it was chosen on and on test photos."""

    gammas: tuple[float, ...]
    chosen_on: tuple[float, ...]
    test: tuple[float, ...]
    gamma: float


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted head and what it does on test photos."""

    name: str
    estimator: Any
    accuracy: Figure
    #: Of the photos that it calls good.
    precision: Figure
    auc: float
    picked: float
    train_accuracy: float


def components(wanted: int, photos: int, width: int) -> int:
    """As many components as asked for, or as there can be."""
    return min(wanted, photos, width)


def layer(train: Sided) -> Pipeline:
    """A new last layer."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(*train)


def svm(train: Sided, wanted: int, seed: int, everything: Features | None = None) -> Pipeline:
    """PCA, whitened, then an SVM with calibrated probabilities.

    Args:
        train: What it is fitted on.
        wanted: Components.
        seed: Of PCA's solver.
        everything: As published: PCA is fitted on these features, the test's included.
    """
    features, sides = train
    pca = PCA(components(wanted, *features.shape), whiten=True, random_state=seed)
    machine = CalibratedClassifierCV(SVC(C=C, kernel="rbf"), ensemble=False)
    if everything is None:
        return make_pipeline(pca, machine).fit(features, sides)
    pca.set_params(n_components=components(wanted, *everything.shape)).fit(everything)
    return Pipeline([("pca", pca), ("machine", machine.fit(pca.transform(features), sides))])


def one_class(train: Sided, gamma: float, wanted: int, seed: int) -> Pipeline:
    """PCA and a one-class SVM, both fitted on good photos alone.

    Raises:
        DataError: There are none.
    """
    good = train[0][train[1] == 1]
    if len(good) < 2:
        raise DataError("a one-class SVM needs good photos to train on")
    pca = PCA(components(wanted, *good.shape), whiten=True, random_state=seed)
    return make_pipeline(pca, OneClassSVM(gamma=gamma, nu=NU)).fit(good)


def sweep(train: Sided, chosen_on: Sided, test: Sided, wanted: int, seed: int) -> Sweep:
    """Chooses gamma by the area under ROC; of equals the one nearest the study's."""
    gammas = tuple(sorted(set(_GAMMAS)))
    rows = []
    for gamma in gammas:
        machine = one_class(train, gamma, wanted, seed)
        rows.append([_auc(machine, some) for some in (chosen_on, test)])
    areas = np.array(rows)
    distance = np.abs(np.log(np.array(gammas) / GAMMA))
    best = int(np.lexsort((distance, -areas[:, 0]))[0])
    return Sweep(gammas, tuple(areas[:, 0]), tuple(areas[:, 1]), gammas[best])


def _auc(machine: Any, some: Sided) -> float:  # noqa: ANN401 - scikit-learn ships no types
    return area_under_roc(np.asarray(machine.decision_function(some[0]), np.float64), some[1] == 1)


def calibrated(machine: Pipeline, val: Sided) -> CalibratedNovelty:
    """A one-class machine that gives probabilities; val teaches it their scale."""
    return CalibratedNovelty(machine).fit(*val)


def head_of(name: str, estimator: Any, train: Sided, test: Sided) -> Head:  # noqa: ANN401 - scikit-learn ships no types
    """Measures a fitted head."""
    good = estimator.predict_proba(test[0])[:, 1]
    said, truth = estimator.predict(test[0]), test[1]
    right, called = int((said == truth).sum()), int(said.sum())
    hits = int(((said == 1) & (truth == 1)).sum())
    accuracy, precision = wilson(right, len(truth)), wilson(hits, called)
    return Head(
        name,
        estimator,
        Figure(right / len(truth), accuracy.low, accuracy.high),
        Figure(hits / called if called else float("nan"), precision.low, precision.high),
        area_under_roc(np.asarray(good, np.float64), truth == 1),
        called / len(truth),
        float((estimator.predict(train[0]) == train[1]).mean()),
    )


def sweep_plot(found: Sweep, chosen_on: str) -> bytes:
    """Area under ROC over gamma."""

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.semilogx(found.gammas, found.chosen_on, color=BLUE, marker="o", ms=3, label=f"{chosen_on}, chosen on")
        axes.semilogx(found.gammas, found.test, color=ORANGE, marker="o", ms=3, label="test")
        axes.axvline(found.gamma, color=GREY, lw=1, label=f"chosen: {found.gamma:g}")
        axes.axvline(GAMMA, color=GREY, lw=1, ls=":", label=f"the study's: {GAMMA:g}")
        axes.set_xlabel("gamma")
        axes.set_ylabel("area under ROC")
        axes.legend(fontsize=8)

    return plot(paint)


def sided(seen: FrozenFeatures) -> dict[str, Sided]:
    """Features and sides of every split.

    Raises:
        DataError: A split lacks a side.
    """
    found = {split: seen.sided(split) for split in (TRAIN, VAL, TEST)}
    for split, (_, sides) in found.items():
        if len(set(sides.tolist())) < 2:
            raise DataError(f"{split} needs photos of both sides, poor and good")
    return found


def majority(test: Sided) -> float:
    """The accuracy of saying the more frequent side every time."""
    share = float(test[1].mean())
    return max(share, 1 - share)


def stacked(parts: Sequence[Sided]) -> Features:
    """All features."""
    return np.concatenate([features for features, _ in parts])
