"""ONNX graphs of fitted scikit-learn heads, written node by node: features float32 [N, width] to probabilities.

Only operators that every engine computes alike: no indexing, no shapes, no loops. skl2onnx is not used: its newest
release is older than the scikit-learn that is trained with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier
from sklearn.feature_selection import SelectorMixin
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, OneClassSVM

from training.errors import ExportError
from training.heads.novelty import CalibratedNovelty
from training.publish.export import OPSET

FEATURES, PROBABILITIES = "features", "probabilities"
#: The format that torch's exporter writes, so that both graphs can be joined.
IR_VERSION: Final = 10


@dataclass(frozen=True, slots=True)
class Affine:
    """(x - centre) @ weights + bias. The centre is kept apart: in the bias, float32 would lose precision."""

    centre: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def then(self, other: "Affine") -> "Affine":
        """The composition: this transformation, then the other."""
        return Affine(
            self.centre, self.weights @ other.weights, (self.bias - other.centre) @ other.weights + other.bias
        )


def folded(steps: Sequence[Any]) -> Affine:
    """Fitted transformers, at least one, applied one after the other.

    Raises:
        ExportError: A step is not a StandardScaler, PCA or feature selection.
    """
    return reduce(Affine.then, (_of(step) for step in steps))


def _of(step: Any) -> Affine:  # noqa: ANN401 - scikit-learn ships no types
    if isinstance(step, StandardScaler):
        width = step.n_features_in_
        scale = step.scale_ if step.scale_ is not None else np.ones(width)
        centre = step.mean_ if step.with_mean else np.zeros(width)
        return Affine(centre, np.diag(1 / scale), np.zeros(width))
    if isinstance(step, PCA):
        weights = step.components_.T.astype(np.float64)
        if step.whiten:
            deviation = np.sqrt(step.explained_variance_)
            weights /= np.maximum(deviation, np.finfo(deviation.dtype).eps)
        return Affine(step.mean_.astype(np.float64), weights, np.zeros(weights.shape[1]))
    if isinstance(step, SelectorMixin):
        kept = np.eye(step.n_features_in_)[:, step.get_support()]
        return Affine(np.zeros(step.n_features_in_), kept, np.zeros(kept.shape[1]))
    raise ExportError(f"no ONNX graph of {type(step).__name__}; StandardScaler, PCA and feature selections have one")


class Sketch:
    """Nodes and constants of a graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[Any] | float) -> str:
        """The name of a float32 constant."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def axes(self, *axes: int) -> str:
        """The name of an int64 constant."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(axes, np.int64), name))
        return name

    def node(self, kind: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:  # noqa: ANN401
        """The output of a new node."""
        name = to or f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], f"node{len(self.nodes)}", **attributes))
        return name

    def matmul(self, value: str, weights: NDArray[Any], bias: NDArray[Any] | None = None) -> str:
        """Multiplies by weights and adds a bias."""
        made = self.node("MatMul", value, self.constant(weights))
        return made if bias is None else self.node("Add", made, self.constant(bias))

    def affine(self, value: str, change: Affine) -> str:
        """An affine transformation of a value; nodes without effect are left out."""
        if change.centre.any():
            value = self.node("Sub", value, self.constant(change.centre))
        return self.matmul(value, change.weights, change.bias if change.bias.any() else None)

    def model(self, width: int, outputs: dict[str, int]) -> onnx.ModelProto:
        """The graph from features of a width to named outputs of widths; all of any batch."""
        given = helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch", width])
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n]) for name, n in outputs.items()]
        graph = helper.make_graph(self.nodes, "head", [given], made, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return model


def probability_graph(estimator: Any, width: int) -> onnx.ModelProto:  # noqa: ANN401 - scikit-learn ships no types
    """The graph of a fitted classifier: features [N, width] to probabilities [N, classes], in its order of classes.

    Raises:
        ExportError: A part of the classifier has no graph here.
    """
    sketch = Sketch()
    sketch.node("Identity", probabilities(sketch, estimator, FEATURES, width), to=PROBABILITIES)
    return sketch.model(width, {PROBABILITIES: len(estimator.classes_)})


def probabilities(sketch: Sketch, estimator: Any, value: str, width: int) -> str:  # noqa: ANN401 - as above
    """Writes a fitted classifier into a sketch and returns the name of its probabilities.

    Raises:
        ExportError: As `probability_graph`.
    """
    estimator, value, width = _last_step(sketch, estimator, value, width)
    if isinstance(estimator, BaggingClassifier):
        return _bagged(sketch, estimator, value, width)
    if isinstance(estimator, LogisticRegression | SGDClassifier):
        return _linear(sketch, estimator, value)
    if isinstance(estimator, CalibratedClassifierCV):
        return _calibrated(sketch, estimator, value, width)
    if isinstance(estimator, CalibratedNovelty):
        decision = decisions(sketch, estimator.fitted, value, width)
        return _two_sided(sketch, _sigmoid_of(sketch, decision, estimator.slope_, estimator.intercept_))
    raise ExportError(f"no ONNX graph of {type(estimator).__name__}")


def _last_step(sketch: Sketch, estimator: Any, value: str, width: int) -> tuple[Any, str, int]:  # noqa: ANN401 - as above
    """Writes the transformers of a pipeline; returns its classifier, its input and the width of that."""
    if not isinstance(estimator, Pipeline):
        return estimator, value, width
    *steps, last = (step for _, step in estimator.steps)
    if not steps:
        return last, value, width
    change = folded(steps)
    return last, sketch.affine(value, change), change.weights.shape[1]


def decisions(sketch: Sketch, estimator: Any, value: str, width: int) -> str:  # noqa: ANN401 - as above
    """The decision function [N, 1] of a binary kernel machine, behind a pipeline's steps or not.

    Raises:
        ExportError: The estimator is not a kernel machine, or its kernel is not RBF.
    """
    estimator, value, _ = _last_step(sketch, estimator, value, width)
    if not isinstance(estimator, SVC | OneClassSVM) or estimator.kernel != "rbf":
        raise ExportError(f"no ONNX graph of {estimator}; SVC and OneClassSVM with an RBF kernel have one")
    if estimator.dual_coef_.shape[0] != 1:
        raise ExportError("an SVC of more than two classes has no ONNX graph here")
    vectors = np.asarray(estimator.support_vectors_, np.float64)
    gamma = float(estimator._gamma)  # noqa: SLF001 - the value of gamma="scale"; no public name has it
    own = sketch.node("ReduceSumSquare", value, sketch.axes(1), keepdims=1)
    crossed = sketch.matmul(value, -2 * vectors.T, (vectors**2).sum(1))
    apart = sketch.node("Relu", sketch.node("Add", crossed, own))  # rounding may leave a negative distance
    kernel = sketch.node("Exp", sketch.node("Mul", apart, sketch.constant(-gamma)))
    return sketch.matmul(kernel, np.asarray(estimator.dual_coef_, np.float64).T, np.asarray(estimator.intercept_))


def _sigmoid_of(sketch: Sketch, value: str, slope: float, intercept: float) -> str:
    scaled = sketch.node("Mul", value, sketch.constant(slope))
    return sketch.node("Sigmoid", sketch.node("Add", scaled, sketch.constant(intercept)))


def _two_sided(sketch: Sketch, positive: str) -> str:
    """[N, 1] to [N, 2]: the rest, and the positive class."""
    return sketch.matmul(positive, np.array([[-1.0, 1.0]]), np.array([1.0, 0.0]))


def _linear(sketch: Sketch, estimator: Any, value: str, weights: NDArray[Any] | None = None) -> str:  # noqa: ANN401
    """Probabilities of a linear classifier; `weights` [width, K] replace its own where it reads a part of the features.

    Raises:
        ExportError: It has no probabilities.
    """
    if isinstance(estimator, SGDClassifier) and estimator.loss != "log_loss":
        raise ExportError(f"an SGDClassifier with the loss {estimator.loss} has no probabilities")
    bias = np.broadcast_to(estimator.intercept_, estimator.coef_.shape[:1])
    scores = sketch.matmul(value, estimator.coef_.T if weights is None else weights, bias if bias.any() else None)
    if estimator.coef_.shape[0] == 1:
        return _two_sided(sketch, sketch.node("Sigmoid", scores))
    if isinstance(estimator, SGDClassifier):  # one-vs-rest: sigmoids normalised by their sum, in logarithms
        scores = sketch.node("Neg", sketch.node("Softplus", sketch.node("Neg", scores)))
    return sketch.node("Softmax", scores, axis=1)


def _calibrated(sketch: Sketch, estimator: Any, value: str, width: int) -> str:  # noqa: ANN401 - as above
    if len(estimator.calibrated_classifiers_) != 1 or estimator.method != "sigmoid":
        raise ExportError("of CalibratedClassifierCV only ensemble=False with the method sigmoid has an ONNX graph")
    (inner,) = estimator.calibrated_classifiers_
    (sigmoid,) = inner.calibrators
    decision = decisions(sketch, inner.estimator, value, width)
    return _two_sided(sketch, _sigmoid_of(sketch, decision, -float(sigmoid.a_), -float(sigmoid.b_)))


def _bagged(sketch: Sketch, estimator: Any, value: str, width: int) -> str:  # noqa: ANN401 - as above
    """The mean over all members; a feature drawn twice counts twice, a class that a member never saw gets 0.

    Raises:
        ExportError: A member is not linear.
    """
    parts = []
    for member, drawn in zip(estimator.estimators_, estimator.estimators_features_, strict=True):
        if not isinstance(member, SGDClassifier | LogisticRegression):
            raise ExportError(f"no ONNX graph of bagged {type(member).__name__}")
        weights = np.zeros((width, member.coef_.shape[0]))
        np.add.at(weights, drawn, member.coef_.T)
        part = _linear(sketch, member, value, weights)
        if len(member.classes_) < len(estimator.classes_):
            part = sketch.matmul(part, np.eye(len(estimator.classes_))[member.classes_.astype(int)])
        parts.append(part)
    return sketch.node("Mul", sketch.node("Sum", *parts), sketch.constant(1 / len(parts)))
