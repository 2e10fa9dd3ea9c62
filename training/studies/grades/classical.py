"""Nine classical models on metadata, and the correlation of each feature with the rating."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy import stats
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import AdaBoostClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from training.data.manifest import Manifest
from training.data.photos import TEST, TRAIN, VAL
from training.errors import DataError
from training.evaluation.figures import GREY, subplots
from training.studies.grades.data import cells, columns_of, encoding, preparation
from training.studies.pictures import png, styled
from training.studies.rated import levels
from training.studies.study import Figure, Table, proportion

MAJORITY: Final = "always the most frequent rating"
_HEAD: Final = ("model", "train accuracy", "val accuracy", "test accuracy", "95 %", "test macro recall")
_SHOWN: Final = 24
TREES: Final = (
    "DecisionTreeClassifier",
    "RandomForestClassifier",
    "AdaBoostClassifier",
    "HistGradientBoostingClassifier",
)


def nine_models(seed: int) -> dict[str, Any]:
    """By name. Random forest, decision tree and SVM are the study's; the names of the others are lost."""
    return {
        "LogisticRegression": LogisticRegression(max_iter=3000),
        "GaussianNB": GaussianNB(),
        "KNeighborsClassifier": KNeighborsClassifier(),
        "LinearDiscriminantAnalysis": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        "DecisionTreeClassifier": DecisionTreeClassifier(random_state=seed),
        "RandomForestClassifier": RandomForestClassifier(random_state=seed),
        "AdaBoostClassifier": AdaBoostClassifier(random_state=seed),
        "HistGradientBoostingClassifier": HistGradientBoostingClassifier(random_state=seed),
        "SVC": SVC(random_state=seed),
    }


@dataclass(frozen=True, slots=True)
class Score:
    """Metrics of one model."""

    name: str
    train: float
    val: float
    test: Figure
    macro_recall: float

    @property
    def cells(self) -> tuple[str, ...]:
        """Its row of the table."""
        numbers = (f"{self.train:.3f}", f"{self.val:.3f}", f"{self.test.value:.3f}", self.test.interval)
        return (self.name, *numbers, f"{self.macro_recall:.3f}")


def scores(manifest: Manifest, features: Sequence[str], selected: int, seed: int, *, as_published: bool) -> list[Score]:
    """Metrics of every model, then of the majority class.

    Args:
        manifest: The photos.
        features: Names of their metadata.
        selected: How many features are selected.
        seed: Of the models.
        as_published: Columns, means, labels, scales and selection are fitted on all photos, the test's included.

    Raises:
        DataError: A split is empty.
    """
    splits = {name: manifest.of(name) for name in (TRAIN, VAL, TEST)}
    if empty := [name for name, photos in splits.items() if not photos]:
        raise DataError(f"there are no photos in {', '.join(empty)}")
    tables = {name: cells(photos, features) for name, photos in splits.items()}
    truth = {name: levels(photos) for name, photos in splits.items()}
    fitted_on = [*tables[TRAIN], *tables[VAL], *tables[TEST]] if as_published else tables[TRAIN]
    rated = np.concatenate(list(truth.values())) if as_published else truth[TRAIN]
    columns = columns_of(fitted_on)
    matrices = {name: columns.matrix(table) for name, table in tables.items()}
    prepared = preparation(columns, selected)
    if as_published:
        prepared.fit(columns.matrix(fitted_on), rated)
        ready = {name: prepared.transform(matrix) for name, matrix in matrices.items()}
        models = nine_models(seed)
    else:
        ready = matrices
        models = {name: make_pipeline(clone(prepared), model) for name, model in nine_models(seed).items()}
    found = [
        _scored(name, model.fit(ready[TRAIN], truth[TRAIN]).predict, ready, truth) for name, model in models.items()
    ]
    most = np.bincount(truth[TRAIN]).argmax()
    return [*found, _scored(MAJORITY, lambda matrix: np.full(len(matrix), most), ready, truth)]


def _scored(name: str, predict: Any, ready: dict[str, Any], truth: dict[str, np.ndarray]) -> Score:  # noqa: ANN401
    predicted = {split: predict(matrix) for split, matrix in ready.items()}
    right = {split: float((answers == truth[split]).mean()) for split, answers in predicted.items()}
    test = proportion(right[TEST], len(truth[TEST]))
    return Score(name, right[TRAIN], right[VAL], test, float(balanced_accuracy_score(truth[TEST], predicted[TEST])))


def table(found: Sequence[Score]) -> Table:
    """The table of the page."""
    return Table(_HEAD, tuple(score.cells for score in found))


def best(found: Sequence[Score], names: Sequence[str] = ()) -> Score:
    """The model that is best on val, of some or of all, the majority apart."""
    return max((score for score in found[:-1] if not names or score.name in names), key=lambda score: score.val)


def best_tree(found: Sequence[Score]) -> Score:
    """The tree, or forest of them, that is best on val."""
    return best(found, TREES)


def figures(found: Sequence[Score]) -> dict[str, Figure]:
    """What stands beside the article's figures."""
    return {
        "best tree on metadata, 5 levels, test accuracy": best_tree(found).test,
        "best classical model on metadata, 5 levels, test accuracy": best(found).test,
        MAJORITY: found[-1].test,
    }


def write_csv(found: Sequence[Score], path: Path) -> None:
    """Writes one line a model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([_HEAD, *(score.cells for score in found)])


@dataclass(frozen=True, slots=True)
class Correlations:
    """Spearman's correlation of features with the rating, strongest first, and with each other; no constant ones."""

    with_rating: tuple[tuple[str, float], ...]
    #: [F + 1, F + 1]; the rating is the last.
    matrix: np.ndarray
    names: tuple[str, ...]


def correlations(manifest: Manifest, features: Sequence[str]) -> Correlations:
    """Correlations on training photos; a constant feature has none."""
    photos = manifest.of(TRAIN)
    table_of = cells(photos, features)
    columns = columns_of(table_of)
    values = encoding(columns).fit_transform(columns.matrix(table_of)).astype(np.float64)
    ratings = np.array([photo.rating for photo in photos], np.float64)
    ranks = np.apply_along_axis(stats.rankdata, 0, np.column_stack((values, ratings)))
    moving = ranks.std(0) > 0
    matrix = np.zeros((ranks.shape[1], ranks.shape[1]))
    matrix[np.ix_(moving, moving)] = np.corrcoef(ranks[:, moving], rowvar=False)
    order = np.argsort(-np.abs(matrix[-1, :-1]), kind="stable")
    strongest = tuple((columns.names[index], float(matrix[-1, index])) for index in order if moving[index])
    return Correlations(strongest, matrix, (*columns.names, "rating"))


def correlation_table(found: Correlations) -> Table:
    """The strongest features."""
    rows = tuple((name, f"{value:+.3f}") for name, value in found.with_rating[:_SHOWN])
    return Table(("feature", "Spearman's correlation with the rating"), rows)


@styled
def correlation_plot(found: Correlations) -> bytes:
    """The matrix of the strongest features and the rating."""
    chosen = [name for name, _ in found.with_rating[:_SHOWN]] + ["rating"]
    places = [found.names.index(name) for name in chosen]
    axes = subplots(7.0, 6.2)
    shown = axes.imshow(found.matrix[np.ix_(places, places)], cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(len(chosen)), chosen, rotation=90)
    axes.set_yticks(range(len(chosen)), chosen)
    axes.tick_params(labelsize=7, colors=GREY)
    axes.grid(visible=False)
    axes.figure.colorbar(shown, shrink=0.7)
    return png(axes)
