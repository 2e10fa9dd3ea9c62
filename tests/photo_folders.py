"""Small folders of photos that tell their label, in the layouts that training reads."""

from pathlib import Path

import numpy as np
from PIL import Image

BRANDS = ("acme", "bolt")


def photo(seed: int, label: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """Noise, brighter in the corner that its label names; unlike all others to a perceptual hash."""
    rng = np.random.default_rng((seed, label))
    rough = Image.fromarray(rng.integers(0, 140, (6, 7, 3), np.uint8)).resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(rough).copy()
    half_x, half_y = size[0] // 2, size[1] // 2
    if label < len(BRANDS):
        pixels[:half_y, label * half_x : (label + 1) * half_x, label] = 250
    return Image.fromarray(pixels)


def brand_folders(folder: Path, each: int = 14) -> Path:
    """<folder>/{acme,bolt,no_logo}/<n>.jpg."""
    for label, name in enumerate((*BRANDS, "no_logo")):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            photo(index, label).save(folder / name / f"{index}.jpg", quality=92)
    return folder


#: A recipe of seconds on `brand_folders`.
TINY = """
task: brand
seed: 5
data:
  sources: [{kind: folders, path: .}]
  split: {val: 0.2, test: 0.2}
  stored_px: 40
  cache: null
model: {arch: resnet10-w8, input_px: 32, dropout: 0.2}
train:
  steps: 24
  batch: 12
  rate: 0.01
  sampler: balanced
  average: 0.8
  evaluate_steps: 8
  checkpoint_steps: 3
  second: {steps: 8, optimiser: rmsprop, rate: 0.0005, evaluate_steps: 4}
"""
