"""Augmentation as of Keras' ImageDataGenerator, which two studies trained with, for batches, from a generator."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Affine:
    """Ranges of the changes, as ImageDataGenerator names them; missing parts are filled with the nearest pixel."""

    #: Degrees, either way.
    rotation_deg: float = 0.0
    #: As fractions of the sides.
    shift: float = 0.0
    #: Degrees, as Keras' `shear_range`: 0.2 is nearly nothing.
    shear_deg: float = 0.0
    #: Sides are scaled by 1 - zoom to 1 + zoom, independently.
    zoom: float = 0.0
    flip: bool = False


def changed(rng: np.random.Generator, photos: Tensor, affine: Affine) -> Tensor:
    """Float32 [N, 3, H, W] of any range, each picture changed independently, with bilinear interpolation."""
    matrices = _matrices(rng, len(photos), affine)
    grid = functional.affine_grid(torch.from_numpy(matrices), list(photos.shape), align_corners=False)
    return functional.grid_sample(photos, grid, padding_mode="border", align_corners=False)


def _matrices(rng: np.random.Generator, count: int, affine: Affine) -> np.ndarray:
    """[N, 2, 3]: from coordinates in the new picture to those in the old one, both -1..1."""
    turn = np.deg2rad(rng.uniform(-affine.rotation_deg, affine.rotation_deg, count))
    lean = np.deg2rad(rng.uniform(-affine.shear_deg, affine.shear_deg, count))
    across, down = rng.uniform(1 - affine.zoom, 1 + affine.zoom, (2, count))
    shift = rng.uniform(-affine.shift, affine.shift, (count, 2)) * 2
    sign = np.where(rng.random(count) < (0.5 if affine.flip else 0.0), -1.0, 1.0)
    zero, one = np.zeros(count), np.ones(count)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shear = np.array([[one, -np.sin(lean)], [zero, np.cos(lean)]])
    zoom = np.array([[across * sign, zero], [zero, down]])
    linear = np.einsum("ijn,jkn,kln->nil", rotation, shear, zoom)
    return np.concatenate((linear, shift[:, :, None]), 2).astype(np.float32)
