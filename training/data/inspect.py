"""Reads every listed photo once: whether it can be read, its SHA-256, its perceptual hash and its shape."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from PIL import Image

from training.data.decode import Decoded, decode
from training.data.made import generator_sha256
from training.data.photos import Photo
from training.data.read import read_bytes
from training.errors import Unreadable

_HASH_PX: Final = 8
#: Photos with a shorter side, in px, are refused: they show too little.
_LEAST_PX: Final = 16


@dataclass(frozen=True, slots=True)
class Broken:
    """A listed photo that cannot be read, and why."""

    photo: Photo
    #: `Unreadable.kind`.
    kind: str
    reason: str

    def as_json(self) -> dict[str, str]:
        """Plain values."""
        return {"id": self.photo.id, "uri": self.photo.uri, "kind": self.kind, "reason": self.reason}


def difference_hash(image: Image.Image) -> int:
    """The 64-bit difference hash: where brightness rises from left to right; robust to resizing and re-encoding."""
    small = np.asarray(image.convert("L").resize((_HASH_PX + 1, _HASH_PX), Image.Resampling.BOX), np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes())


def _shape(photo: Decoded) -> dict[str, str]:
    ratio, megapixels = photo.width / photo.height, photo.width * photo.height / 1e6
    return {
        "orientation": "landscape" if ratio > 1.05 else "portrait" if ratio < 0.95 else "square",
        "megapixels": "< 0.5" if megapixels < 0.5 else "< 4" if megapixels < 4 else ">= 4",
    }


def inspect(photo: Photo) -> Photo | Broken:
    """Reads one photo; returns it with its SHA-256, difference hash, time and shape."""
    if photo.drawn:
        digest = photo.sha256 or hashlib.sha256(f"{generator_sha256()} {photo.uri}".encode()).hexdigest()
        return replace(photo, sha256=digest)
    try:
        body = read_bytes(photo.uri)
        decoded = decode(body, _HASH_PX * 4)
    except Unreadable as error:
        return Broken(photo, error.kind, str(error))
    left, top, right, bottom = photo.box or (0.0, 0.0, 1.0, 1.0)
    width, height = round((right - left) * decoded.width), round((bottom - top) * decoded.height)
    if min(width, height) < _LEAST_PX:
        return Broken(photo, "too small", f"only {width}x{height} pixels")
    image = decoded.image
    if photo.box is not None:
        x0, y0, x1, y1 = (int(share * side) for share, side in zip(photo.box, image.size * 2, strict=True))
        image = image.crop((x0, y0, x1 + 1, y1 + 1))
    sha256, dhash = hashlib.sha256(body).hexdigest(), difference_hash(image)
    metadata = {**photo.metadata, **_shape(decoded)}
    return replace(photo, sha256=sha256, dhash=dhash, taken=decoded.taken, metadata=metadata)


def inspect_all(
    photos: Sequence[Photo], workers: int, on_done: Callable[[int], None] = lambda _count: None
) -> tuple[list[Photo], list[Broken]]:
    """`inspect` of all photos in order; calls `on_done(1)` after each."""
    found: list[Photo | Broken] = []
    with ThreadPoolExecutor(workers) as pool:
        for result in pool.map(inspect, photos):
            found.append(result)
            on_done(1)
    return [one for one in found if isinstance(one, Photo)], [one for one in found if isinstance(one, Broken)]
