"""A one-class SVM with calibrated probabilities (Platt scaling of its decision function)."""

from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin

#: Least slope of the sigmoid, in log odds for each standard deviation of the decision: positive, so the order is kept.
_LEAST_SLOPE: Final = 0.1


class CalibratedNovelty(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A fitted one-class model, and a sigmoid over its decision that is fitted on good and poor photos.

    The model itself is trained on good photos only, so its decision has no scale; the sigmoid needs a few poor ones,
    which must not be test photos.
    """

    def __init__(self, fitted: Any) -> None:  # noqa: ANN401 - a pipeline or a OneClassSVM
        self.fitted = fitted

    def fit(self, features: NDArray[np.floating[Any]], good: NDArray[np.integer[Any]]) -> Self:
        """Fits the sigmoid by log loss; the one-class model stays as it is."""
        decisions = np.asarray(self.fitted.decision_function(features), np.float64)
        middle, spread = float(decisions.mean()), float(decisions.std()) or 1.0
        scaled, signs = (decisions - middle) / spread, np.where(np.asarray(good) == 1, 1.0, -1.0)

        def loss(values: NDArray[np.float64]) -> float:
            return float(np.logaddexp(0, -signs * (values[0] * scaled + values[1])).mean())

        found = minimize(loss, np.array([1.0, 0.0]), bounds=((_LEAST_SLOPE, 20.0), (-20.0, 20.0))).x
        self.slope_ = float(found[0]) / spread
        self.intercept_ = float(found[1]) - self.slope_ * middle
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
