"""Metadata that a photo's own file brings along: what the camera wrote into its EXIF, and what else the file tells."""

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final

import numpy as np
from PIL import ExifTags, Image

from training.data.formats import HEAD_BYTES, format_of, served
from training.data.photos import Photo
from training.data.read import read_bytes
from training.errors import Unreadable

_Base: Final = ExifTags.Base
_SIDEWAYS: Final = frozenset({5, 6, 7, 8})
#: A text longer than this is no name of a camera or a program.
_MOST_CHARACTERS: Final = 64


def _text(value: Any) -> str:  # noqa: ANN401 - EXIF holds values of any kind
    found = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return "".join(c for c in found if c.isprintable()).strip()[:_MOST_CHARACTERS]


def _number(value: Any) -> str:  # noqa: ANN401 - as above
    found = float(value[0] if isinstance(value, tuple) else value)
    return f"{found:.6g}" if math.isfinite(found) else ""


def _moment(value: Any) -> str:  # noqa: ANN401 - as above
    return datetime.strptime(_text(value)[:19], "%Y:%m:%d %H:%M:%S").isoformat()  # noqa: DTZ007 - a camera's clock


#: Name, tag and reader of what the camera wrote. Those of the second table stand in EXIF's own part.
_CAMERA: Final[tuple[tuple[str, int, Callable[[Any], str]], ...]] = (
    ("exif_make", _Base.Make, _text),
    ("exif_camera", _Base.Model, _text),
    ("exif_software", _Base.Software, _text),
    ("exif_orientation", _Base.Orientation, _number),
)
_EXPOSURE: Final[tuple[tuple[str, int, Callable[[Any], str]], ...]] = (
    ("exif_taken_at", _Base.DateTimeOriginal, _moment),
    ("exif_lens", _Base.LensModel, _text),
    ("exif_exposure_s", _Base.ExposureTime, _number),
    ("exif_aperture", _Base.FNumber, _number),
    ("exif_iso", _Base.ISOSpeedRatings, _number),
    ("exif_focal_mm", _Base.FocalLength, _number),
    ("exif_focal_35mm", _Base.FocalLengthIn35mmFilm, _number),
    ("exif_exposure_bias", _Base.ExposureBiasValue, _number),
    ("exif_exposure_program", _Base.ExposureProgram, _number),
    ("exif_metering", _Base.MeteringMode, _number),
    ("exif_flash", _Base.Flash, _number),
    ("exif_white_balance", _Base.WhiteBalance, _number),
    ("exif_digital_zoom", _Base.DigitalZoomRatio, _number),
    ("exif_scene", _Base.SceneCaptureType, _number),
)
_PLACE: Final = ("exif_latitude", "exif_longitude", "exif_altitude_m")
_FILE: Final = (
    "file_format", "file_kb", "file_width_px", "file_height_px", "file_megapixels", "file_aspect", "file_shape",
    "file_colours", "file_bytes_per_px", "file_progressive", "file_quantisation", "file_chroma", "file_dpi",
    "file_has_profile", "file_has_exif",
)  # fmt: skip
#: The features' names, in order.
FEATURES: Final = (*_FILE, *(name for name, _, _ in (*_CAMERA, *_EXPOSURE)), *_PLACE)


def with_metadata(
    photos: Sequence[Photo], workers: int, on_done: Callable[[int], None] = lambda _count: None
) -> tuple[Photo, ...]:
    """The photos with what their files tell beside the metadata that their list brings, which wins."""
    made = []
    with ThreadPoolExecutor(workers) as pool:
        for photo, found in zip(photos, pool.map(_of_photo, photos), strict=True):
            made.append(replace(photo, metadata={**found, **photo.metadata}))
            on_done(1)
    return tuple(made)


def _of_photo(photo: Photo) -> dict[str, str]:
    try:
        return metadata_of(read_bytes(photo.uri))
    except Unreadable:  # gone since it was listed: what it would tell is missing
        return {}


def metadata_of(body: bytes) -> dict[str, str]:
    """What a photo's file tells, by name of the feature; what it does not tell is left out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(body), formats=sorted(served())) as image:
                found = {**_file(image, body), **_exif(image)}
    except Exception:  # noqa: BLE001 - on broken bytes Pillow raises anything
        return {}
    return {name: value for name, value in found.items() if value}


def _file(image: Image.Image, body: bytes) -> dict[str, str]:
    turned = _tolerant(lambda: _number(image.getexif().get(_Base.Orientation, 1))) in {str(n) for n in _SIDEWAYS}
    width, height = image.size[::-1] if turned else image.size
    ratio, tables = width / height, getattr(image, "quantization", {})
    values = (
        format_of(body[:HEAD_BYTES]),
        f"{len(body) / 1024:.2f}",
        str(width),
        str(height),
        f"{width * height / 1e6:.4f}",
        f"{ratio:.4f}",
        "landscape" if ratio > 1.05 else "portrait" if ratio < 0.95 else "square",
        image.mode,
        f"{len(body) / (width * height):.4f}",
        "yes" if image.info.get("progressive") else "no",
        f"{np.mean(list(tables[0])):.2f}" if tables else "",
        _chroma(image),
        _tolerant(lambda: _number(image.info["dpi"])),
        "yes" if image.info.get("icc_profile") else "no",
        "yes" if image.info.get("exif") else "no",
    )
    return dict(zip(_FILE, values, strict=True))


def _chroma(image: Image.Image) -> str:
    """How many pixels of a JPEG share a colour: 1x1, 2x1, 2x2."""
    layers = getattr(image, "layer", [])
    return f"{layers[0][1]}x{layers[0][2]}" if len(layers) > 1 else ""


def _exif(image: Image.Image) -> dict[str, str]:
    exif = image.getexif()
    camera, exposure = _values(_CAMERA, exif), _values(_EXPOSURE, exif.get_ifd(ExifTags.IFD.Exif))
    return {**camera, **exposure, **_place(exif.get_ifd(ExifTags.IFD.GPSInfo))}


def _values(table: Sequence[tuple[str, int, Callable[[Any], str]]], part: Mapping[int, Any]) -> dict[str, str]:
    return {name: _tolerant(partial(_value, read, part, tag)) for name, tag, read in table}


def _value(read: Callable[[Any], str], part: Mapping[int, Any], tag: int) -> str:
    return read(part[tag])


def _place(values: Mapping[int, Any]) -> dict[str, str]:
    gps = ExifTags.GPS
    latitude = _tolerant(lambda: _degrees(values[gps.GPSLatitude], values.get(gps.GPSLatitudeRef) == "S"))
    longitude = _tolerant(lambda: _degrees(values[gps.GPSLongitude], values.get(gps.GPSLongitudeRef) == "W"))
    return dict(zip(_PLACE, (latitude, longitude, _tolerant(lambda: _number(values[gps.GPSAltitude]))), strict=True))


def _degrees(value: Any, negative: bool) -> str:  # noqa: ANN401, FBT001 - degrees, minutes and seconds of EXIF
    degrees, minutes, seconds = (float(part) for part in value)
    found = degrees + minutes / 60 + seconds / 3600
    return _number(-found if negative else found)


def _tolerant(read: Callable[[], str]) -> str:
    """What a reader finds; empty where the file holds nothing, or nonsense, there."""
    try:
        return read()
    except Exception:  # noqa: BLE001 - any bytes may stand for any value
        return ""
