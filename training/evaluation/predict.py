"""Predictions of a network for a run's split; the rest of the evaluation works on their arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import nn

from training.data.photos import Photo
from training.data.read import read_bytes
from training.evaluation.answers import Answers
from training.evaluation.quality import levels_of
from training.evaluation.robustness import encoded
from training.models.served import normalise
from training.runs.run import QUALITY, Run, load_split
from training.statistics import Floats

#: More photos do not fit into a CPU's cache.
_BATCH: Final = 16


@dataclass(frozen=True, slots=True)
class SplitPredictions:
    """A model's predictions for a split, with its inputs."""

    answers: Answers
    #: uint8 [N, S, S, 3].
    images: np.ndarray
    photos: tuple[Photo, ...]


@torch.no_grad()
def logits_of(net: nn.Module, images: np.ndarray) -> Floats:
    """Logits [N, C] of uint8 photos [N, S, S, 3]."""
    parts = []
    for start in range(0, len(images), _BATCH):
        pixels = torch.from_numpy(images[start : start + _BATCH]).permute(0, 3, 1, 2)
        parts.append(net(normalise(pixels).to(memory_format=torch.channels_last)).double().numpy())
    made: Floats = np.concatenate(parts) if parts else np.empty((0, 0))
    return made


def predict_split(run: Run, split: str, net: nn.Module, on_done: Callable[[int], None]) -> SplitPredictions:
    """The network's predictions for a split; calls `on_done(1)` after each photo is decoded."""
    photos, items = load_split(run, split), []
    for item in photos:
        items.append(item)
        on_done(1)
    side = photos.geometry.input_size
    images = np.stack([item.pixels.numpy() for item in items]) if items else np.empty((0, side, side, 3), np.uint8)
    targets = np.array([item.target for item in items], np.float64)
    labels = levels_of(targets) if run.recipe().task == QUALITY else targets.astype(np.int64)
    names = sorted({name for item in items for name in item.slices})
    answers = Answers(
        np.array([item.id for item in items], np.str_),
        logits_of(net, images) if items else np.empty((0, len(photos.labels))),
        labels,
        targets,
        np.array([photo.group for photo in photos.photos], np.str_),
        {name: np.array([item.slices.get(name, "") for item in items], np.str_) for name in names},
    )
    return SplitPredictions(answers, images, tuple(photos.photos))


def files_of(seen: SplitPredictions, most: int) -> tuple[list[bytes], np.ndarray, bool]:
    """Photos as files, to measure robustness on: the originals, where there are enough of them.

    Otherwise photos that exist as pixels only (composed, damaged by code) are written as PNG of the model's size; the
    same artefact does more to so small a picture than to a real upload.

    Returns:
        The files, their indices in `seen`, and whether they are originals.
    """
    original = [
        index
        for index, photo in enumerate(seen.photos)
        if ":" not in photo.uri.partition("/")[0] and photo.damage is None and photo.box is None
    ]
    enough = len(original) >= min(most, len(seen.photos) // 4) > 0
    chosen = spread(np.array(original if enough else range(len(seen.photos)), np.int64), most)
    if enough:
        return [read_bytes(seen.photos[index].uri) for index in chosen], chosen, True
    return [encoded(Image.fromarray(seen.images[index]), "PNG") for index in chosen], chosen, False


def spread(indices: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the indices, evenly spread."""
    return indices if len(indices) <= most else indices[np.linspace(0, len(indices) - 1, most).astype(np.int64)]
