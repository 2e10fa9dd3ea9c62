"""The service's decision of a model's outputs, which every variant of a version must share."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def decided(probabilities: NDArray[Any], threshold: float) -> NDArray[np.int64]:
    """The tag of each row [N, brands + no_logo]: the best brand where it reaches the threshold, else no_logo."""
    brands = probabilities[:, :-1]
    tags: NDArray[np.int64] = np.where(brands.max(1) >= threshold, brands.argmax(1), brands.shape[1])
    return tags


def decider(decision: Mapping[str, float]) -> Callable[[list[np.ndarray]], NDArray[np.int64]]:
    """The decision of outputs: a brand's index or the last for none, or 1 for good."""
    if "good_threshold" in decision:
        return lambda outputs: (outputs[0][:, 0] >= decision["good_threshold"]).astype(np.int64)
    return lambda outputs: decided(outputs[0], decision["threshold"])
