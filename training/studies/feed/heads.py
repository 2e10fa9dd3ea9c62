"""The study's heads on frozen features: a new last layer, PCA and SVM, a one-class SVM with its sweep of gamma."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVC, OneClassSVM

from training.data.photos import TEST, TRAIN, VAL
from training.errors import DataError
from training.evaluation.figures import BLUE, GREY, ORANGE, subplots
from training.heads.features import Features
from training.statistics import Ints, area_under_roc, share
from training.studies.pictures import png, styled
from training.studies.rated import FrozenFeatures
from training.studies.study import Figure, proportion

LAYER, SVM, ONE_CLASS = "layer", "svm", "one-class"
#: The study's values.
COMPONENTS, C, GAMMA, NU = 512, 0.4, 0.011, 0.08
_GAMMAS: Final = (*(float(f"{value:.4g}") for value in np.geomspace(1e-4, 1.0, 17)), GAMMA)
Sided = tuple[Features, Ints]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Area under ROC for each gamma, on the photos that gamma is chosen on and on test photos; the chosen gamma."""

    gammas: tuple[float, ...]
    chosen_on: tuple[float, ...]
    test: tuple[float, ...]
    gamma: float


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted head and its metrics on test photos."""

    name: str
    estimator: Any
    accuracy: Figure
    #: Of the photos that it predicts as good, and their share of all.
    precision: Figure
    auc: float
    picked: float
    train_accuracy: float


def svm(train: Sided, wanted: int, seed: int, everything: Features | None = None) -> Pipeline:
    """PCA, whitened, then an SVM with calibrated probabilities.

    Args:
        train: What it is fitted on.
        wanted: Components; fewer where there are fewer photos or features.
        seed: Of PCA's solver.
        everything: As published: PCA is fitted on these features, the test's included.
    """
    features, sides = train
    pca = PCA(min(wanted, *features.shape), whiten=True, random_state=seed)
    machine = CalibratedClassifierCV(SVC(C=C, kernel="rbf"), ensemble=False)
    if everything is None:
        return make_pipeline(pca, machine).fit(features, sides)
    pca.set_params(n_components=min(wanted, *everything.shape)).fit(everything)
    return Pipeline([("pca", pca), ("machine", machine.fit(pca.transform(features), sides))])


def one_class(train: Sided, gamma: float, wanted: int, seed: int) -> Pipeline:
    """PCA and a one-class SVM, both fitted on good photos alone.

    Raises:
        DataError: There are none.
    """
    good = train[0][train[1] == 1]
    if len(good) < 2:
        raise DataError("a one-class SVM needs good photos to train on")
    pca = PCA(min(wanted, *good.shape), whiten=True, random_state=seed)
    return make_pipeline(pca, OneClassSVM(gamma=gamma, nu=NU)).fit(good)


def sweep(train: Sided, chosen_on: Sided, test: Sided, wanted: int, seed: int) -> Sweep:
    """Chooses gamma by the area under ROC; of equal ones the nearest to the study's."""
    gammas = tuple(sorted(set(_GAMMAS)))
    rows = []
    for gamma in gammas:
        machine = one_class(train, gamma, wanted, seed)
        rows.append([area_under_roc(machine.decision_function(some), sides == 1) for some, sides in (chosen_on, test)])
    areas = np.array(rows)
    distance = np.abs(np.log(np.array(gammas) / GAMMA))
    best = int(np.lexsort((distance, -areas[:, 0]))[0])
    return Sweep(gammas, tuple(areas[:, 0]), tuple(areas[:, 1]), gammas[best])


def head_of(name: str, estimator: Any, train: Sided, test: Sided) -> Head:  # noqa: ANN401 - scikit-learn ships no types
    """Measures a fitted head."""
    good = estimator.predict_proba(test[0])[:, 1]
    predicted, truth = estimator.predict(test[0]), test[1]
    right, picked = predicted == truth, predicted == 1
    return Head(
        name,
        estimator,
        proportion(float(right.mean()), len(truth)),
        proportion(share(right[picked]), int(picked.sum())),
        area_under_roc(np.asarray(good, np.float64), truth == 1),
        float(picked.mean()),
        float((estimator.predict(train[0]) == train[1]).mean()),
    )


@styled
def sweep_plot(found: Sweep, chosen_on: str) -> bytes:
    """Area under ROC over gamma."""
    axes = subplots(6.0, 3.4)
    axes.semilogx(found.gammas, found.chosen_on, color=BLUE, marker="o", ms=3, label=f"{chosen_on}, chosen on")
    axes.semilogx(found.gammas, found.test, color=ORANGE, marker="o", ms=3, label="test")
    axes.axvline(found.gamma, color=GREY, lw=1, label=f"chosen: {found.gamma:g}")
    axes.axvline(GAMMA, color=GREY, lw=1, ls=":", label=f"the study's: {GAMMA:g}")
    axes.set_xlabel("gamma")
    axes.set_ylabel("area under ROC")
    axes.legend(fontsize=8)
    return png(axes)


def sided(seen: FrozenFeatures) -> dict[str, Sided]:
    """Features and binary labels of every split.

    Raises:
        DataError: A split lacks good or poor photos.
    """
    found = {split: seen.sided(split) for split in (TRAIN, VAL, TEST)}
    for split, (_, sides) in found.items():
        if len(set(sides.tolist())) < 2:
            raise DataError(f"{split} needs photos of both sides, poor and good")
    return found


def majority(test: Sided) -> float:
    """The accuracy of predicting the more frequent label for every photo."""
    good = float(test[1].mean())
    return max(good, 1 - good)
