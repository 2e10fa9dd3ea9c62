"""What stands before a classifier in a scikit-learn pipeline, folded into one matrix: scaling, selection, PCA."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectorMixin
from sklearn.preprocessing import StandardScaler

from training.errors import ExportError

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Affine:
    """(x - centre) @ weights + bias. The centre is kept apart: folded into the bias, float32 would lose digits."""

    centre: Matrix
    weights: Matrix
    bias: Matrix

    def then(self, other: "Affine") -> "Affine":
        """This, then the other, as one."""
        return Affine(
            self.centre, self.weights @ other.weights, (self.bias - other.centre) @ other.weights + other.bias
        )


def identity(width: int) -> Affine:
    """What changes nothing."""
    return Affine(np.zeros(width), np.eye(width), np.zeros(width))


def folded(steps: Sequence[Any], width: int) -> Affine:
    """Fitted transformers of features [N, width], one after the other.

    Raises:
        ExportError: A step is none of StandardScaler, PCA and the feature selections.
    """
    parts = [_of(step) for step in steps]
    if not parts:
        return identity(width)
    made = parts[0]
    for part in parts[1:]:
        made = made.then(part)
    return made


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
