"""Features of photos from a frozen network, streamed into memory-mapped files; a killed extraction resumes.

A file is named by network, weights, input size and photos, so that it is never mistaken for another. Memory holds one
batch, however many photos there are.
"""

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.decode import Geometry
from training.data.photos import Photo
from training.data.pixels import content_sha256, stack
from training.errors import DataError
from training.models.networks import build, natural_px, trunk
from training.models.packages import LICENCE, package_of
from training.models.served import normalise
from training.recipes.recipe import Model
from training.runs.checkpoint import write_text

Features = NDArray[np.float32]
_BATCH: Final = 128
#: Hexadecimal digits of a hash that name a file.
_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class Backbone:
    """A frozen network without its last layer: normalised [N, 3, H, W] to features [N, width]."""

    arch: str
    net: nn.Module
    geometry: Geometry
    width: int
    #: Of every tensor's name and bytes: other weights, trained or random, are another backbone.
    weights_sha256: str
    #: Where the weights come from, for a report: a file's name, "pretrained", a package, or the seed of random ones.
    origin: str


def backbone(model: Model, seed: int = 0, px: int | None = None, device: str = "cpu") -> Backbone:
    """The frozen backbone of a network with the weights that `model` names, or with random ones.

    Args:
        model: The network; its weights may fit all layers but the last.
        seed: Of random weights where none are given. Such features tell little, and a report must say so.
        px: Input size in pixels; by default what the network was designed for.
        device: Where it computes.

    Raises:
        RecipeError: No such network.
        WeightsError: The weights do not fit, are missing, or cannot be downloaded.
        ToolMissing: timm is asked for and not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = trunk(build(model, 2)).eval().requires_grad_(requires_grad=False)
    side = px or natural_px(model.arch)
    digest = weights_sha256(net)
    net = net.to(torch.device(device)).to(memory_format=torch.channels_last)
    with torch.no_grad():
        width = _forward(net, torch.zeros((1, 3, side, side), dtype=torch.uint8)).shape[1]
    return Backbone(model.arch, net, Geometry(side, side), width, digest, origin_of(model, seed))


def origin_of(model: Model, seed: int) -> str:
    """Where a network's weights come from: a file, a package, the library, or the seed of random ones."""
    if model.weights:
        return model.weights.name
    if model.pretrained == "package":
        package = package_of(model.arch)
        return f"{package.file} of {package.requirement}; licence: {LICENCE}; source: {package.source}"
    return "pretrained" if model.pretrained else f"random, seed {seed}"


def weights_sha256(net: nn.Module) -> str:
    """A hash of every tensor of a network."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _forward(net: nn.Module, pixels: Tensor) -> Features:
    device = next(net.parameters()).device
    made = net(normalise(pixels).to(device, memory_format=torch.channels_last))
    found: Features = made.flatten(1).float().cpu().numpy()
    return found


def features_of(source: Backbone, pixels: Tensor) -> Features:
    """Features [N, width] of pixels uint8 [N, 3, H, W], without the cache."""
    return _forward(source.net, pixels)


def cache_file(source: Backbone, photos: Sequence[Photo], cache: Path) -> Path:
    """Where `extract` keeps the features of these photos."""
    named = f"{source.arch} {source.weights_sha256} {content_sha256(photos, source.geometry)}"
    return cache / f"features-{hashlib.sha256(named.encode()).hexdigest()[:_DIGITS]}.npy"


def extract(
    source: Backbone,
    photos: Sequence[Photo],
    cache: Path,
    *,
    batch: int = _BATCH,
    workers: int = 2,
    on_done: Callable[[int], None] = lambda _count: None,
) -> Features:
    """Features [N, width] of photos in their order, memory-mapped and read-only; extracted where the cache lacks them.

    An extraction that was killed resumes after its last whole batch, with the same result. Of two processes that want
    the same features the second waits, then reads the first one's.

    Args:
        source: The network.
        photos: As listed; those with a hash are recognised under any path.
        cache: Folder of the files.
        batch: Photos in memory at once.
        workers: Threads that decode.
        on_done: Called with the number of photos of each finished part, those of an earlier run included.

    Raises:
        DataError: No photos.
        Unreadable: A photo that was readable when it was listed no longer is.
    """
    if not photos:
        raise DataError("no photos to extract features from")
    path = cache_file(source, photos, cache)
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        if path.is_file():
            on_done(len(photos))
        else:
            _fill(source, photos, path, batch, workers, on_done)
    made: Features = np.load(path, mmap_mode="r")
    return made


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds a lock that the kernel releases when the process ends."""
    with path.with_suffix(".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _fill(  # noqa: PLR0917 - as `extract`
    source: Backbone, photos: Sequence[Photo], path: Path, batch: int, workers: int, on_done: Callable[[int], None]
) -> None:
    part, count = path.with_name(f".{path.name}.part"), path.with_suffix(".rows")
    done = int(count.read_text()) if part.is_file() and count.is_file() else 0
    shape = (len(photos), source.width)
    rows: np.memmap[tuple[int, int], np.dtype[np.float32]] = np.lib.format.open_memmap(
        part, "r+" if done else "w+", None if done else np.float32, None if done else shape
    )
    on_done(done)
    for start in range(done, len(photos), batch):
        chosen = photos[start : start + batch]
        rows[start : start + len(chosen)] = _forward(source.net, stack(chosen, source.geometry, workers))
        rows.flush()
        write_text(count, str(start + len(chosen)))  # after the rows, which are on disk by then
        on_done(len(chosen))
    del rows
    described = {
        "network": source.arch,
        "weights": source.origin,
        "weights_sha256": source.weights_sha256,
        "input_px": source.geometry.input_size,
        "photos": len(photos),
        "width": source.width,
        "photos_sha256": content_sha256(photos, source.geometry),
    }
    write_text(path.with_suffix(".json"), json.dumps(described, indent=2) + "\n")
    part.rename(path)
    count.unlink()
