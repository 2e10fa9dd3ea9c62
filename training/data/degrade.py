"""Synthetic damage of known severity, which turns an undamaged photo of level 5 into one of level 4, 3, 2 or 1.

Strengths are relative to the photo's short side, so that the same severity looks the same on a 192 px training canvas
and on a 1,000 px sample. Severity is 0 (undamaged) to 4 (worst); fractions lie between.
"""

from collections.abc import Callable
from enum import StrEnum

import numpy as np
import torch
from torch.nn import functional

from training.data.compose import blur, jpeg, pixel_centres, upright_grid

#: Severity of the worst grade; level = 5 - severity.
WORST = 4
_REFERENCE_PX = 192
#: JPEG is applied at this short side: blocks of a larger photo would vanish when it is resized for the model.
_JPEG_PX = 96


class Damage(StrEnum):
    """One kind of damage."""

    BLUR = "blur"
    MOTION = "motion"
    NOISE = "noise"
    DARK = "dark"
    BRIGHT = "bright"
    JPEG = "jpeg"
    LOW_RESOLUTION = "low_resolution"


def _motion(rng: np.random.Generator, image: torch.Tensor, length: float) -> torch.Tensor:
    """Averages the image over a straight line of `length` reference px at any angle, as a moving camera does."""
    angle = float(rng.uniform(0, np.pi))
    length *= min(image.shape[1:]) / _REFERENCE_PX
    taps = max(3, min(int(length), 25))
    along = torch.linspace(-0.5, 0.5, taps) * length
    dx, dy = along * np.cos(angle) * 2 / image.shape[2], along * np.sin(angle) * 2 / image.shape[1]
    columns = pixel_centres(image.shape[2]) + dx[:, None]
    rows = pixel_centres(image.shape[1]) + dy[:, None]
    grid = upright_grid(columns, rows)
    return functional.grid_sample(
        image.expand(taps, -1, -1, -1), grid, padding_mode="border", align_corners=False
    ).mean(0)


def _noise(rng: np.random.Generator, image: torch.Tensor, deviation: float) -> torch.Tensor:
    """Sensor noise, half of it coloured; grains grow with the image, so that a resize does not remove them."""
    _, height, width = image.shape
    grain = max(1.0, min(height, width) / _REFERENCE_PX)
    shape = (1, 3, round(height / grain), round(width / grain))
    grey = rng.standard_normal((1, 1, *shape[2:]), np.float32)
    field = torch.from_numpy(0.8 * grey + 0.6 * rng.standard_normal(shape, np.float32))
    return (image + deviation * functional.interpolate(field, (height, width), mode="nearest")[0]).clamp(0, 1)


def _low_resolution(_rng: np.random.Generator, image: torch.Tensor, merged: float) -> torch.Tensor:
    _, height, width = image.shape
    merged = max(1.0, merged * min(height, width) / _REFERENCE_PX)
    small = (max(2, round(height / merged)), max(2, round(width / merged)))
    coarse = functional.interpolate(image[None], small, mode="bilinear", antialias=True)
    return functional.interpolate(coarse, (height, width), mode="bilinear")[0].clamp(0, 1)


def _coarse_jpeg(_rng: np.random.Generator, image: torch.Tensor, quality: float) -> torch.Tensor:
    """JPEG of a small copy, so that its 8 px blocks keep their share of the photo; its loss is put on the photo."""
    _, height, width = image.shape
    shrink = max(1.0, min(height, width) / _JPEG_PX)
    small = (round(height / shrink), round(width / shrink))
    if small == (height, width):
        return jpeg(image, round(quality))
    coarse = functional.interpolate(image[None], small, mode="bilinear", antialias=True)[0]
    lost = functional.interpolate((jpeg(coarse, round(quality)) - coarse)[None], (height, width), mode="nearest")[0]
    return (image + lost).clamp(0, 1)


def _dark(rng: np.random.Generator, image: torch.Tensor, stops: float) -> torch.Tensor:
    return _noise(rng, image * 2**-stops, 0.012 * stops)


#: What makes each kind of damage, and its strength at severity 0..4 for a short side of 192 px.
_KINDS: dict[Damage, tuple[Callable[[np.random.Generator, torch.Tensor, float], torch.Tensor], tuple[float, ...]]] = {
    # sigma, px
    Damage.BLUR: (
        lambda _rng, image, sigma: blur(image, sigma * min(image.shape[1:]) / _REFERENCE_PX),
        (0.0, 1.3, 2.4, 3.8, 6.5),
    ),
    Damage.MOTION: (_motion, (0.0, 6.0, 11.0, 18.0, 30.0)),  # length of the smear, px
    Damage.NOISE: (_noise, (0.0, 0.09, 0.17, 0.28, 0.45)),  # deviation, share of full scale
    Damage.DARK: (_dark, (0.0, 1.0, 1.8, 2.6, 3.6)),  # stops
    Damage.BRIGHT: (lambda _rng, image, stops: (image * 2**stops).clamp(0, 1), (0.0, 0.7, 1.2, 1.8, 2.6)),  # stops
    Damage.JPEG: (_coarse_jpeg, (70.0, 26.0, 15.0, 9.0, 4.0)),  # quality
    Damage.LOW_RESOLUTION: (_low_resolution, (1.0, 2.8, 4.2, 6.5, 10.0)),  # px merged into one
}


def degrade(rng: np.random.Generator, image: torch.Tensor, damage: Damage, severity: float) -> torch.Tensor:
    """An image float32 [3, H, W] in 0..1 with one kind of damage at a severity 0..4.

    The strength is interpolated between the five grades; severity 0 returns the image as it is.
    """
    apply, strengths = _KINDS[damage]
    return image if severity <= 0 else apply(rng, image, float(np.interp(severity, range(WORST + 1), strengths)))


def draw_damage(rng: np.random.Generator, severity: float) -> list[tuple[Damage, float]]:
    """The damage that makes a grade 0..4: one kind, or two kinds that are each one grade milder.

    Grades spread by up to 0.3 to each side, since photos do not come in five steps; grade 0 is untouched.
    """
    kinds = list(Damage)
    first, second = (kinds[int(index)] for index in rng.choice(len(kinds), 2, replace=False))
    jitter = float(rng.uniform(-0.3, 0.3))
    if severity >= 2 and rng.random() < 0.3:
        return [(first, severity - 1 + jitter), (second, severity - 1 + jitter)]
    return [(first, min(severity + jitter, WORST))] if severity else []


def damaged(rng: np.random.Generator, image: torch.Tensor, severity: float) -> torch.Tensor:
    """An image with a random damage of a grade 0..4, as `draw_damage` draws it."""
    for damage, grade in draw_damage(rng, severity):
        image = degrade(rng, image, damage, grade)
    return image
