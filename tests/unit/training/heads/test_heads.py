"""Classical heads as ONNX graphs: what scikit-learn says, the graph says, on random and on real features."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, OneClassSVM

from training.data.degrade import WORST
from training.data.made import scene_uri
from training.data.photos import Photo
from training.errors import ExportError, GateRefused, RunError
from training.heads.candidate import candidate_of
from training.heads.evaluation import SplitFeatures
from training.heads.features import Backbone, backbone, extract
from training.heads.folder import Trained, load, save
from training.heads.graph import probability_graph
from training.heads.novelty import CalibratedNovelty
from training.heads.served import quality_graph, quality_of
from training.publish.release import release
from training.recipes.recipe import Model

WIDTH = 48


def random_features(rows: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features as after a ReLU, two classes, five classes."""
    rng = np.random.default_rng(seed)
    features = (np.maximum(rng.normal(size=(rows, WIDTH)), 0) * 3).astype(np.float32)
    towards = features[:, 0] + 0.5 * features[:, 1]
    return features, (towards > 2).astype(int), np.digitize(towards, [0.3, 1, 2, 3])


def bagged() -> BaggingClassifier:
    member = SGDClassifier(
        loss="log_loss", penalty="elasticnet", alpha=1e-3, class_weight="balanced", fit_intercept=False, random_state=0
    )
    return BaggingClassifier(member, max_samples=0.5, max_features=0.5, bootstrap_features=True, random_state=0)


def svm() -> CalibratedClassifierCV:
    return CalibratedClassifierCV(SVC(C=0.4), ensemble=False)


def novelty(features: np.ndarray, good: np.ndarray) -> CalibratedNovelty:
    one_class = make_pipeline(StandardScaler(), OneClassSVM(gamma=0.011, nu=0.08)).fit(features[good == 1])
    return CalibratedNovelty(one_class).fit(features, good)


def heads(features: np.ndarray, good: np.ndarray, levels: np.ndarray) -> dict[str, Any]:
    rare = levels.copy()
    rare[:2] = 7  # some members of a bag never see it
    return {
        "pca-svm": make_pipeline(PCA(20, whiten=True, random_state=0), svm()).fit(features, good),
        "scaled-selected-svm": make_pipeline(StandardScaler(), SelectKBest(k=9), svm()).fit(features, good),
        "bagged-two": make_pipeline(VarianceThreshold(0.1), bagged()).fit(features, good),
        "bagged-five": make_pipeline(VarianceThreshold(0.1), bagged()).fit(features, levels),
        "bagged-rare-class": bagged().fit(features, rare),
        "one-sgd-five": make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)).fit(
            features, levels
        ),
        "logistic-two": LogisticRegression(max_iter=2000).fit(features, good),
        "logistic-five": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features, levels),
        "one-class": novelty(features, good),
    }


def said_by(graph: onnx.ModelProto, features: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, {"features": features})]


RANDOM = random_features()
HEADS = heads(*RANDOM)


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_graph_says_what_scikit_learn_says_of_random_features(name: str) -> None:
    estimator, (unseen, _, _) = HEADS[name], random_features(200, seed=1)
    graph = probability_graph(estimator, WIDTH)
    for count in (1, 200):
        (found,) = said_by(graph, unseen[:count])
        assert np.abs(found - estimator.predict_proba(unseen[:count])).max() < 1e-4
    assert not {node.op_type for node in graph.graph.node} & {"Gather", "Shape", "Loop", "If"}


@pytest.mark.parametrize("name", ["pca-svm", "bagged-five", "one-class"])
def test_a_graph_says_what_scikit_learn_says_of_real_features(real: "Real", name: str) -> None:
    good, levels = (real.ratings >= 3).astype(int), real.ratings.astype(int) - 1
    width = real.features.shape[1]
    made = {
        "pca-svm": lambda: make_pipeline(PCA(16, whiten=True, random_state=0), svm()).fit(real.features, good),
        "bagged-five": lambda: make_pipeline(VarianceThreshold(1e-4), bagged()).fit(real.features, levels),
        "one-class": lambda: novelty(real.features, good),
    }[name]()
    (found,) = said_by(probability_graph(made, width), real.features)
    assert np.abs(found - made.predict_proba(real.features)).max() < 1e-4


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(3),
        make_pipeline(MinMaxScaler(), LogisticRegression()),
        CalibratedClassifierCV(SVC(kernel="linear"), ensemble=False),
        CalibratedClassifierCV(SVC(), ensemble=True),
    ],
)
def test_what_has_no_graph_is_refused(estimator: Any) -> None:
    features, good, _ = RANDOM
    with pytest.raises(ExportError):
        probability_graph(estimator.fit(features, good), WIDTH)


@given(st.floats(0, 1))
def test_levels_of_two_sides_sum_to_one_and_their_mean_is_the_score(good: float) -> None:
    score, levels = quality_of(np.array([[1 - good, good]]))
    assert score[0, 0] == good
    assert np.isclose(levels.sum(), 1)
    assert np.isclose(levels[0] @ np.arange(1, 6), 1 + 4 * good)
    assert (levels > 0).sum() <= 2


@pytest.mark.parametrize("name", ["pca-svm", "bagged-five", "one-class"])
def test_the_served_outputs_are_score_and_levels(name: str) -> None:
    features, _, _ = RANDOM
    score, levels = said_by(quality_graph(HEADS[name], WIDTH), features)
    want_score, want_levels = quality_of(HEADS[name].predict_proba(features))
    assert score.shape == (300, 1)
    assert levels.shape == (300, 5)
    assert np.abs(score - want_score).max() < 1e-4
    assert np.abs(levels - want_levels).max() < 5e-4


def test_a_head_of_seven_classes_is_no_quality_model() -> None:
    features, _, _ = RANDOM
    seven = SGDClassifier(loss="log_loss", random_state=0).fit(features, np.arange(300) % 7)
    with pytest.raises(ExportError, match="cannot be a quality model"):
        quality_graph(seven, WIDTH)


class Real:
    """Damaged scenes that code draws, and what a small network makes of them."""

    def __init__(self, folder: Path) -> None:
        self.source: Backbone = backbone(Model(arch="resnet10-w8"), px=32)
        self.photos = [
            Photo(
                id=f"{index}",
                uri=scene_uri("test", index // 6),
                source="scenes",
                rating=float(5 - index % 2 * WORST) if index % 6 < 4 else float(5 - index % 5),
                damage=(2 * index, float(index % 2 * WORST) if index % 6 < 4 else float(index % 5)),
                sha256=f"{index}",
                split="test",
            )
            for index in range(180)
        ]
        self.features = np.array(extract(self.source, self.photos, folder))
        self.ratings = np.array([photo.rating for photo in self.photos])

    def side(self, start: int, stop: int) -> SplitFeatures:
        return SplitFeatures(self.photos[start:stop], self.features[start:stop])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    return Real(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def head(real: Real, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("head")
    chosen = [index for index in range(90) if real.ratings[index] in {1.0, 5.0}]
    good = (real.ratings[chosen] == 5).astype(int)
    estimator = make_pipeline(PCA(12, whiten=True, random_state=0), svm()).fit(real.features[chosen], good)
    trained = Trained("toy", real.source, estimator, tuple(real.photos[index] for index in chosen), ("A remark.",))
    save(folder, trained, real.side(90, 135), real.side(135, 180))
    return folder


def test_a_kept_head_is_read_without_unpickling(head: Path) -> None:
    (head / "head.joblib").rename(head / "elsewhere")
    try:
        kept = load(head)
    finally:
        (head / "elsewhere").rename(head / "head.joblib")
    assert kept.images.shape == (45, 32, 32, 3)
    assert kept.about["photos"]["test"] == 45
    assert "A remark." in (head / "card.md").read_text()
    assert "linear interpolation" in (head / "card.md").read_text()


def test_a_head_whose_weights_were_exchanged_is_refused(head: Path, real: Real, tmp_path: Path) -> None:
    for entry in head.iterdir():
        (tmp_path / entry.name).write_bytes(entry.read_bytes())
    save(
        tmp_path / "other",
        Trained("other", backbone(Model(arch="resnet10-w8"), seed=9, px=32), plain_head(real), tuple(real.photos[:90])),
        real.side(90, 135),
        real.side(135, 180),
    )
    (tmp_path / "backbone.pt").write_bytes((tmp_path / "other" / "backbone.pt").read_bytes())
    with pytest.raises(RunError, match="other weights"):
        load(tmp_path)


def plain_head(real: Real) -> Any:
    return LogisticRegression(max_iter=300).fit(real.features[:90], (real.ratings[:90] >= 3).astype(int))


def test_a_head_that_is_no_better_than_nothing_is_refused(real: Real, tmp_path: Path) -> None:
    shuffled = np.random.default_rng(0).permutation((real.ratings[:90] >= 3).astype(int))
    useless = LogisticRegression(max_iter=300).fit(real.features[:90], shuffled)
    trained = Trained("useless", real.source, useless, tuple(real.photos[:90]))
    save(tmp_path / "head", trained, real.side(90, 135), real.side(135, 180))
    with pytest.raises(GateRefused):
        release(candidate_of(tmp_path / "head"), tmp_path / "models")
    assert not (tmp_path / "models").exists()
