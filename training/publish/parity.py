"""Parity: every file of a version must decide what torch decides, on real photos, in the engine that serves it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from training.serving.engines import Engine
from training.serving.files import LEAST_AGREEMENT
from training.statistics import Ints

#: Outputs of a graph to one class index a photo.
Decide = Callable[[list[np.ndarray]], Ints]


@dataclass(frozen=True, slots=True)
class Parity:
    """One variant in one engine against torch."""

    file: str
    engine: str
    photos: int
    agreement: float
    max_abs_difference: float
    passed: bool


def torch_engine(model: nn.Module) -> Engine:
    """A served model in torch; it gives one tensor or a tuple of them."""

    @torch.no_grad()
    def run(images: np.ndarray) -> list[np.ndarray]:
        found = model(torch.from_numpy(images))
        return [value.numpy() for value in (found if isinstance(found, tuple) else (found,))]

    return run


def difference(expected: list[np.ndarray], found: list[np.ndarray]) -> float:
    """The largest absolute difference of any output."""
    return max(float(np.abs(want - got).max()) for want, got in zip(expected, found, strict=True))


def compare(  # noqa: PLR0917 - the parts of one comparison
    file: str, engine: str, expected: list[np.ndarray], found: list[np.ndarray], decide: Decide, tolerance: float
) -> Parity:
    """How far a variant's outputs are from torch's, and whether it may be published.

    Args:
        file: Name of the variant's file.
        engine: What ran it.
        expected: Outputs of torch.
        found: Outputs of the variant, for the same photos.
        decide: The decision of outputs.
        tolerance: Largest difference of any output that passes.
    """
    agreement, worst = float((decide(expected) == decide(found)).mean()), difference(expected, found)
    passed = agreement >= LEAST_AGREEMENT and worst <= tolerance
    return Parity(file, engine, len(found[0]), agreement, worst, passed)
