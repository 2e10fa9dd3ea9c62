"""A one-class SVM whose distance from the border becomes a probability."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression


class CalibratedNovelty(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A fitted one-class model, and a sigmoid over its decision that is fitted on photos of both kinds.

    The model itself has seen good photos only, so its decision has no scale; the sigmoid needs a few poor ones, which
    must not be those that are reported on.
    """

    def __init__(self, fitted: Any) -> None:  # noqa: ANN401 - a pipeline or a OneClassSVM
        self.fitted = fitted

    def fit(self, features: NDArray[np.floating[Any]], good: NDArray[np.integer[Any]]) -> Self:
        """Fits the sigmoid; the one-class model stays as it is."""
        decisions = self.fitted.decision_function(features).reshape(-1, 1)
        spread = float(decisions.std()) or 1.0
        found = LogisticRegression(C=1e4).fit(decisions / spread, good)
        self.slope_ = float(found.coef_[0, 0]) / spread
        self.intercept_ = float(found.intercept_[0])
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Probabilities [N, 2] of poor and good."""
        raised = self.slope_ * self.fitted.decision_function(features) + self.intercept_
        good = 1 / (1 + np.exp(-raised))
        return np.stack((1 - good, good), 1)

    def predict(self, features: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """1 for good."""
        return (self.predict_proba(features)[:, 1] >= 0.5).astype(np.int64)
