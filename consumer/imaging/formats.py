"""The table of image formats: everything that depends on the format of a photo is in its one entry here.

A format is added by an entry alone. Every field is required, so that a missing one fails at import and not on a photo.
What other programs need of the formats is published as data (`published`, docs/schemas/image-formats.json).
"""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from PIL import AvifImagePlugin, ImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from consumer.errors import PhotoRejected
from consumer.imaging.containers import brands, check_boxes, check_png, check_webp, media_ends_early, png_ends_early
from consumer.imaging.cost import Cost, FrameCost, Stored, jpeg_cost, png_cost, webp_cost
from consumer.imaging.jpeg import jpeg_ends_early, read_jpeg
from consumer.imaging.limits import PrepareLimits
from consumer.imaging.metadata import avif_picture, gif_picture, jpeg_picture, png_picture, webp_picture

_HEIF_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
#: Suffixes of photos in unsupported formats; a search for photos in a folder must report them.
UNREAD_SUFFIXES: Final = frozenset(
    {".arw", ".bmp", ".cr2", ".cr3", ".dng", ".jp2", ".jxl", ".nef", ".orf", ".raf", ".rw2", ".tif", ".tiff"}
)

#: The wheel of pillow-heif contains x265 and is therefore under the GPLv2, unlike this project.
_HEIC_HOW: Final = (
    "HEIC is read with the extra photo-tagger[heic] (pillow-heif, GPLv2) and the setting prepare.heic = true"
)

#: The result of the structure check of a file, which the cost estimate needs.
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Option:
    """How to enable a format that is off by default."""

    enabled: Callable[[PrepareLimits], bool]
    #: The instructions, for error messages.
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Format(Generic[S]):
    """One format of photos."""

    #: Pillow's name.
    name: str
    #: For messages.
    title: str
    #: Of its files, in lower case, with the dot.
    suffixes: tuple[str, ...]
    #: Whether bytes are of this format, by their first few; a Content-Type or a file name is not trusted.
    recognises: Callable[[bytes], bool]
    #: Checks the structure before the reader parses it, which could take too long; raises PhotoRejected.
    check: Callable[[bytes, PrepareLimits], S]
    #: The file without the metadata that is not needed to see the photo: a fault in it must not refuse the photo.
    picture: Callable[[bytes], bytes]
    #: Reads the header. Not `Image.open`, which tries every plugin and parses a JPEG's index of more pictures.
    reader: Callable[[io.BytesIO], ImageFile.ImageFile]
    #: The most that a decode takes.
    cost: Callable[[S, Stored], Cost]
    #: Whether a photo that could not be decoded is truncated, as an upload in progress is.
    ends_early: Callable[[bytes], bool]
    #: None for a format that is always on.
    option: Option | None


def _magic(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda body: body.startswith(starts)


def _open_jpeg(body: io.BytesIO) -> ImageFile.ImageFile:
    """The image with its header read; metadata are dropped only where Pillow fails: it takes 2% of a small photo."""
    try:
        image = JpegImageFile(body)
    except SyntaxError:
        image = JpegImageFile(io.BytesIO(jpeg_picture(body.getvalue())))
    # All bytes at once: nothing is copied, and the decoder is slower at the end of each block.
    image.decodermaxblock = sys.maxsize
    return image


def _open_avif(body: io.BytesIO) -> ImageFile.ImageFile:
    # One thread for each photo: others are decoded in parallel.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    return AvifImagePlugin.AvifImageFile(body)


def _open_heif(body: io.BytesIO) -> ImageFile.ImageFile:
    """The image with its header read; pillow-heif turns it upright as the file says.

    Raises:
        PhotoRejected: `unsupported_format`: pillow-heif is not installed; the detail says how to change that.
    """
    try:
        from pillow_heif import HeifImageFile, options  # noqa: PLC0415 - an extra that most installations lack
    except ImportError:
        raise PhotoRejected("unsupported_format", f"pillow-heif is not installed; {_HEIC_HOW}") from None
    # One thread for each photo: others are decoded in parallel.
    options.DECODE_THREADS = 1
    options.THUMBNAILS = False
    image: ImageFile.ImageFile = HeifImageFile(body)
    return image


#: In the order in which they are tried and named: AVIF before HEIF, whose brands its files may carry as well.
FORMATS: tuple[Format[Any], ...] = (
    Format(
        name="JPEG",
        title="JPEG",
        suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
        recognises=_magic(b"\xff\xd8\xff"),
        check=lambda body, limits: read_jpeg(body, limits.max_scans),
        picture=bytes,
        reader=_open_jpeg,
        cost=jpeg_cost,
        ends_early=jpeg_ends_early,
        option=None,
    ),
    Format(
        name="PNG",
        title="PNG",
        suffixes=(".png",),
        recognises=_magic(b"\x89PNG\r\n\x1a\n"),
        check=lambda body, _: check_png(body),
        picture=png_picture,
        reader=PngImageFile,
        cost=png_cost,
        ends_early=png_ends_early,
        option=None,
    ),
    Format(
        name="WEBP",
        title="WebP",
        suffixes=(".webp",),
        recognises=lambda body: body.startswith(b"RIFF") and body[8:12] == b"WEBP",
        check=lambda body, _: check_webp(body),
        picture=webp_picture,
        reader=WebPImageFile,
        cost=webp_cost,
        # Fewer bytes than the RIFF header says.
        ends_early=lambda body: int.from_bytes(body[4:8], "little") + 8 > len(body),
        option=None,
    ),
    Format(
        name="GIF",
        title="GIF",
        suffixes=(".gif",),
        recognises=_magic(b"GIF87a", b"GIF89a"),
        check=lambda _body, _limits: None,
        picture=gif_picture,
        reader=GifImageFile,
        cost=FrameCost(bytes_per_pixel=1.0, ns_per_pixel=5.0, ns_per_byte=4.0),
        # No trailer at the end.
        ends_early=lambda body: not body.rstrip(b"\0").endswith(b";"),
        option=None,
    ),
    Format(
        name="AVIF",
        title="AVIF",
        suffixes=(".avif",),
        recognises=lambda body: not brands(body).isdisjoint({b"avif", b"avis"}),
        check=lambda body, _: check_boxes(body),
        picture=avif_picture,
        reader=_open_avif,
        cost=FrameCost(bytes_per_pixel=10.0, ns_per_pixel=20.0, ns_per_byte=75.0),
        ends_early=media_ends_early,
        option=None,
    ),
    Format(
        name="HEIF",
        title="HEIC",
        suffixes=(".heic", ".heif", ".hif"),
        recognises=lambda body: not brands(body).isdisjoint(_HEIF_BRANDS),
        check=lambda body, _: check_boxes(body),
        picture=bytes,
        reader=_open_heif,
        cost=FrameCost(bytes_per_pixel=10.0, ns_per_pixel=30.0, ns_per_byte=90.0),
        ends_early=media_ends_early,
        option=Option(lambda limits: limits.heic, _HEIC_HOW),
    ),
)


def sniff(body: bytes, limits: PrepareLimits) -> Format[Any]:
    """The format of a photo, by its first bytes.

    Raises:
        PhotoRejected: `empty_body`, or `unsupported_format`, also for a format that is not turned on.
    """
    if not body:
        raise PhotoRejected("empty_body", "the photo has no bytes")
    found = _recognised(body)
    if found is None:
        *first, last = (each.title for each in FORMATS if each.option is None)
        raise PhotoRejected("unsupported_format", f"starts with {body[:16]!r}; {', '.join(first)} and {last} are read")
    if found.option is not None and not found.option.enabled(limits):
        raise PhotoRejected("unsupported_format", f"{found.title} is not allowed here; {found.option.how}")
    return found


def format_of(body: bytes) -> str | None:
    """The name of the format of a photo, `jpeg`; None for bytes in no known format."""
    found = _recognised(body)
    return None if found is None else found.name.lower()


def ends_early(body: bytes) -> bool:
    """Whether a photo is truncated; False for bytes in no known format."""
    found = _recognised(body)
    return found is not None and found.ends_early(body)


def photo_suffixes() -> frozenset[str]:
    """The suffixes of all photos, in supported formats or not."""
    return UNREAD_SUFFIXES.union(*(each.suffixes for each in FORMATS))


def published() -> dict[str, Any]:
    """The formats as data, for other programs."""
    return {
        "formats": [
            {"name": each.name, "suffixes": each.suffixes, "by_default": each.option is None} for each in FORMATS
        ],
        "unread_suffixes": sorted(UNREAD_SUFFIXES),
    }


def _recognised(body: bytes) -> Format[Any] | None:
    return next((each for each in FORMATS if each.recognises(body)), None)
