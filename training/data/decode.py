"""From a photo's bytes to pixels, exactly as the service makes them: upright, RGB, short side resized, centre crop.

Nothing may be imported from the service, so its arithmetic is repeated here; a test compares both.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from training.data.formats import HEAD_BYTES, format_of, served
from training.data.metadata import avif_picture, gif_picture, jpeg_picture, png_picture, webp_picture
from training.errors import Unreadable

#: Larger images are refused, which protects against decompression bombs.
MAX_PIXELS: Final = 100_000_000
#: As the service: larger profiles are ignored.
_MAX_PROFILE_BYTES: Final = 4 * 1024 * 1024
#: As the service: a JPEG is decoded at no less than this many times the wanted short side.
_DRAFT_GAP: Final = 2
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS: Final = frozenset({5, 6, 7, 8})
#: A short side that no photo has: decoding to at least this is decoding at full size.
FULL_PX: Final = 1 << 20


def _jpeg(body: bytes) -> ImageFile.ImageFile:
    try:
        return JpegImageFile(io.BytesIO(body))
    except SyntaxError:
        return JpegImageFile(io.BytesIO(jpeg_picture(body)))


#: Pillow's reader of each served format. `Image.open` would hand bytes to any plugin, and that of EPS runs Ghostscript.
_READERS: Final[dict[str, Callable[[bytes], ImageFile.ImageFile]]] = {
    "JPEG": _jpeg,
    "PNG": lambda body: PngImageFile(io.BytesIO(png_picture(body))),
    "WEBP": lambda body: WebPImageFile(io.BytesIO(webp_picture(body))),
    "GIF": lambda body: GifImageFile(io.BytesIO(gif_picture(body))),
    "AVIF": lambda body: AvifImageFile(io.BytesIO(avif_picture(body))),
}


@dataclass(frozen=True, slots=True)
class Geometry:
    """The model's view of a photo, in px: its short side is resized, then a centre square is cropped."""

    input_size: int
    resize_short_side: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """An upright RGB image, perhaps decoded smaller by `factor`, and the size that it has in full."""

    image: Image.Image
    width: int
    height: int
    factor: float = 1.0
    #: When it was taken by its EXIF, in seconds of the camera's clock; None where it does not say.
    taken: float | None = None


def decode(body: bytes, short_side: int) -> Decoded:
    """An upright RGB image whose short side is at least twice `short_side`, or full size where that is smaller.

    Raises:
        Unreadable: Not an image in a format that the service reads, a corrupt one, or more than MAX_PIXELS.
    """
    name = format_of(body[:HEAD_BYTES])
    if name not in served():
        found = f"a {name} file" if name else f"starts with {body[:16]!r}"
        kind = f"{name}, which the service does not read" if name else "no photo"
        raise Unreadable(f"{found}: the service reads {', '.join(_READERS)}", kind)
    try:
        with warnings.catch_warnings(), _READERS[name](body) as opened:
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            width, height = opened.size
            _check_size(width, height)
            wanted = (short_side * _DRAFT_GAP, short_side * _DRAFT_GAP)
            drafted = opened.draft("RGB", wanted) if name == "JPEG" else None
            frame = opened.tile[0].extents if name == "GIF" else None
            opened.load()
            # draft rounds the sides up, so the factor comes from its box, not from the ratio of the sides.
            factor = drafted[1][2] / width if drafted else 1.0
            turn, taken = _orientation(opened), _taken(opened)
            image = _framed(_rgb(opened), frame)
            image = image.transpose(_TURNS[turn]) if turn in _TURNS else image
    except Unreadable:
        raise
    except Exception as error:  # noqa: BLE001 - on broken bytes the decoders raise anything
        raise Unreadable(f"{type(error).__name__}: {str(error)[:120]}", "broken") from None
    size = (height, width) if turn in _SIDEWAYS else (width, height)
    return Decoded(image, *size, factor, taken)


def _framed(image: Image.Image, frame: tuple[int, int, int, int] | None) -> Image.Image:
    """The image with white around the first frame of a GIF, as browsers show it."""
    if frame is None or frame == (0, 0, *image.size):
        return image
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image.crop(frame), frame)
    return canvas


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unreadable(f"{width}x{height} pixels", "too large")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) where it is missing or unreadable, as in the service."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - Pillow's EXIF parser raises anything on broken bytes
        return 1
    return value if isinstance(value, int) else 1


def _taken(image: Image.Image) -> float | None:
    """Seconds since 1970 as if the camera's clock, whose time zone is not known, were in UTC."""
    try:
        values = image.getexif().get_ifd(ExifTags.IFD.Exif)
        text = values.get(ExifTags.Base.DateTimeOriginal) or values[ExifTags.Base.DateTimeDigitized]
        return datetime.strptime(f"{text[:19]} +0000", "%Y:%m:%d %H:%M:%S %z").timestamp()
    except Exception:  # noqa: BLE001 - as above; and any bytes may stand for a time
        return None


def _rgb(image: Image.Image) -> Image.Image:
    """RGB on white, as in the service: 16-bit grey scaled, which Pillow would clip; CMYK by its profile, if usable."""
    clear, profile = image.info.get("transparency"), image.info.get("icc_profile")
    if image.mode in {"I", "I;16", "I;16L", "I;16B", "I;16N"}:
        deep = np.clip(np.asarray(image), 0, 65_535)
        grey = np.where(deep == clear, 255, deep >> 8) if isinstance(clear, int) else deep >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode == "CMYK" and profile and len(profile) <= _MAX_PROFILE_BYTES:
        return _from_cmyk(image, profile)
    if isinstance(clear, tuple) and max(clear) > 255:  # a 16-bit colour, decoded to 8
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        white = Image.new("RGBA", seen.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, seen).convert("RGB")
    return image.convert("RGB")


def _from_cmyk(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        converted = None
    return image.convert("RGB") if converted is None else converted


def square(photo: Decoded, geometry: Geometry, part: tuple[float, float, float, float] | None = None) -> np.ndarray:
    """The model's view of a photo, or of a part of it: uint8 [input_size, input_size, 3].

    Args:
        photo: What `decode` returned.
        geometry: The view.
        part: Left, top, right, bottom as shares of the sides; the whole photo by default.
    """
    left, top, right, bottom = part or (0.0, 0.0, 1.0, 1.0)
    width, height = (right - left) * photo.width, (bottom - top) * photo.height
    short = min(width, height)
    x0, x1 = _centre(width, short, geometry)
    y0, y1 = _centre(height, short, geometry)
    box = (
        (left * photo.width + x0) * photo.factor,
        (top * photo.height + y0) * photo.factor,
        min((left * photo.width + x1) * photo.factor, photo.image.width),
        min((top * photo.height + y1) * photo.factor, photo.image.height),
    )
    size = (geometry.input_size, geometry.input_size)
    return np.array(photo.image.resize(size, Image.Resampling.BILINEAR, box))


def _centre(side: float, short: float, geometry: Geometry) -> tuple[float, float]:
    """Where the crop starts and ends on one side, with torchvision's rounding."""
    resized = geometry.resize_short_side if side == short else int(geometry.resize_short_side * side / short)
    start = round((resized - geometry.input_size) / 2.0)
    factor = side / resized
    return start * factor, min((start + geometry.input_size) * factor, side)
