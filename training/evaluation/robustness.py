"""Robustness: uploads are re-coded, shrunk and turned on their way; how many tags change when that happens."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import ExifTags, Image

from training.data.decode import Geometry, decode, square
from training.statistics import Interval, Ints, share, wilson

#: A tag flip rate that is called out.
ALARM: Final = 0.05

Images = np.ndarray
#: Decides on uint8 [N, S, S, 3]: one class index a photo.
Decide = Callable[[Images], Ints]


def _coded(photo: Image.Image, format_name: str, **options: int | bytes) -> bytes:
    stream = io.BytesIO()
    photo.save(stream, format_name, **options)
    return stream.getvalue()


def _turned(photo: Image.Image) -> bytes:
    """The photo stored lying, with the EXIF orientation that stands it up again."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return _coded(photo.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif.tobytes())


def _half(photo: Image.Image) -> bytes:
    size = (max(16, photo.width // 2), max(16, photo.height // 2))
    return _coded(photo.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=90)


#: What happens to photos on their way, by name.
ARTEFACTS: Final[dict[str, Callable[[Image.Image], bytes]]] = {
    "JPEG quality 30": lambda photo: _coded(photo, "JPEG", quality=30),
    "half size": _half,
    "EXIF-rotated": _turned,
    "WebP quality 60": lambda photo: _coded(photo, "WEBP", quality=60),
    "grey": lambda photo: _coded(photo.convert("L"), "JPEG", quality=90),
    "CMYK": lambda photo: _coded(photo.convert("CMYK"), "JPEG", quality=95),
}


#: What leaves a photo as good as it was; the rest may rightly change a judgement of quality.
HARMLESS: Final = frozenset({"EXIF-rotated", "WebP quality 60", "CMYK"})


@dataclass(frozen=True, slots=True)
class Flips:
    """What one artefact did."""

    artefact: str
    photos: int
    #: Share of photos whose tag changed.
    rate: float
    interval: Interval
    #: Share of photos tagged as their label says, before and after.
    right_before: float
    right_after: float


def _seen(bodies: Sequence[bytes], geometry: Geometry) -> Images:
    """Photos as the service's own preprocessing makes them from bytes."""
    return np.stack([square(decode(body, geometry.resize_short_side), geometry) for body in bodies])


def flips(bodies: Sequence[bytes], labels: Ints, geometry: Geometry, decide: Decide) -> list[Flips]:
    """How each artefact changes the tags of photos.

    Args:
        bodies: Files of readable photos.
        labels: What `decide` should answer.
        geometry: The serving geometry.
        decide: The model with its threshold.
    """
    before = decide(_seen(bodies, geometry))
    made = []
    for name, spoil in ARTEFACTS.items():
        spoilt = []
        for body in bodies:
            with Image.open(io.BytesIO(body)) as photo:
                upright = decode(body, max(photo.size)).image
            spoilt.append(spoil(upright))
        after = decide(_seen(spoilt, geometry))
        changed = before != after
        made.append(
            Flips(
                name,
                len(bodies),
                share(changed),
                wilson(int(changed.sum()), len(bodies)),
                share(before == labels),
                share(after == labels),
            )
        )
    return made
