"""Robustness: how many tags change when photos are re-encoded, shrunk or rotated, as happens to uploads."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import ExifTags, Image

from training.data.decode import FULL_PX, Geometry, decode, square
from training.statistics import Interval, Ints, share, wilson

#: A share of changed tags that raises an alarm.
ALARM: Final = 0.05

Images = np.ndarray
#: Decides on uint8 [N, S, S, 3]: one class index a photo.
Decide = Callable[[Images], Ints]


def encoded(photo: Image.Image, format_name: str, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's, by format
    """A picture as a file of a format, such as "PNG" with `optimize`."""
    stream = io.BytesIO()
    photo.save(stream, format_name, **options)
    return stream.getvalue()


def _turned(photo: Image.Image) -> bytes:
    """The photo stored rotated by 90 degrees, with the EXIF orientation that undoes it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return encoded(photo.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif.tobytes())


def _half(photo: Image.Image) -> bytes:
    size = (max(16, photo.width // 2), max(16, photo.height // 2))
    return encoded(photo.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=90)


#: What happens to photos on the way to an upload, by name.
ARTEFACTS: Final[dict[str, Callable[[Image.Image], bytes]]] = {
    "JPEG quality 30": lambda photo: encoded(photo, "JPEG", quality=30),
    "half size": _half,
    "EXIF-rotated": _turned,
    "WebP quality 60": lambda photo: encoded(photo, "WEBP", quality=60),
    "grey": lambda photo: encoded(photo.convert("L"), "JPEG", quality=90),
    "CMYK": lambda photo: encoded(photo.convert("CMYK"), "JPEG", quality=95),
}


#: Artefacts that do not lower a photo's quality; the others may rightly change a quality score.
HARMLESS: Final = frozenset({"EXIF-rotated", "WebP quality 60", "CMYK"})


@dataclass(frozen=True, slots=True)
class Flips:
    """The effect of one artefact on tags."""

    artefact: str
    photos: int
    #: Share of photos whose tag changed.
    rate: float
    interval: Interval
    #: Share of photos tagged correctly, before and after.
    right_before: float
    right_after: float


def _seen(bodies: Sequence[bytes], geometry: Geometry) -> Images:
    """Photos preprocessed from bytes as in service."""
    return np.stack([square(decode(body, geometry.resize_short_side), geometry) for body in bodies])


def flips(bodies: Sequence[bytes], labels: Ints, geometry: Geometry, decide: Decide) -> list[Flips]:
    """How each artefact changes the tags of photos.

    Args:
        bodies: Files of readable photos.
        labels: The correct decisions.
        geometry: The serving geometry.
        decide: The model with its threshold.
    """
    before = decide(_seen(bodies, geometry))
    made = []
    for name, spoil in ARTEFACTS.items():
        spoilt = [spoil(decode(body, FULL_PX).image) for body in bodies]
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
