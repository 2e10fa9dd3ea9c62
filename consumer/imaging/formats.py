"""The table of image formats: everything that depends on the format of a photo is in its one entry here.

A format is added by an entry alone. Each field must be given, so that a forgotten one fails at import and not on a
photo. What other parts must know of the formats is published as data (`published`, docs/schemas/image-formats.json).
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from PIL import AvifImagePlugin, ImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from consumer.errors import PhotoRejected
from consumer.imaging import heic, truncation
from consumer.imaging.containers import brands, check_boxes, check_png
from consumer.imaging.cost import Cost, FrameCost, Stored, jpeg_cost, png_cost
from consumer.imaging.jpeg import read_jpeg
from consumer.imaging.limits import PrepareLimits

_HEIF_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
#: Names of photos in formats that are not read. Whoever looks for photos in a folder must say that they are there.
UNREAD_SUFFIXES: Final = frozenset(
    {".arw", ".bmp", ".cr2", ".cr3", ".dng", ".jp2", ".jxl", ".nef", ".orf", ".raf", ".rw2", ".tif", ".tiff"}
)

#: What the check of a file's structure learns of it, and the estimate of its cost needs.
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Option:
    """What turns on a format that is off by default."""

    enabled: Callable[[PrepareLimits], bool]
    #: In words, for who sends or serves such photos.
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Format(Generic[S]):
    """One format of photos."""

    #: Pillow's name.
    name: str
    #: As people write it.
    title: str
    #: Of its files, in lower case, with the dot.
    suffixes: tuple[str, ...]
    #: Whether bytes are of this format, by their first few; a Content-Type or a file name proves nothing.
    recognises: Callable[[bytes], bool]
    #: Refuses a file that would cost the reader itself too much, before it sees it; raises PhotoRejected.
    check: Callable[[bytes, PrepareLimits], S]
    #: Reads the header. Not `Image.open`, which tries every plugin and parses a JPEG's index of more pictures.
    reader: Callable[[io.BytesIO], ImageFile.ImageFile]
    #: What a decode takes at its worst.
    cost: Callable[[S, Stored], Cost]
    #: Whether a photo that could not be decoded stops before its end.
    ends_early: Callable[[bytes], bool]
    #: None for a format that is always read.
    option: Option | None


def _magic(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda body: body.startswith(starts)


def _open_avif(body: io.BytesIO) -> ImageFile.ImageFile:
    # One photo, one thread: others are decoded beside it.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    return AvifImagePlugin.AvifImageFile(body)


#: In the order in which they are tried and named: AVIF before HEIF, whose brands its files may carry as well.
FORMATS: tuple[Format[Any], ...] = (
    Format(
        name="JPEG",
        title="JPEG",
        suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
        recognises=_magic(b"\xff\xd8\xff"),
        check=lambda body, limits: read_jpeg(body, limits.max_scans),
        reader=JpegImageFile,
        cost=jpeg_cost,
        ends_early=truncation.jpeg_ends_early,
        option=None,
    ),
    Format(
        name="PNG",
        title="PNG",
        suffixes=(".png",),
        recognises=_magic(b"\x89PNG\r\n\x1a\n"),
        check=lambda body, _: check_png(body),
        reader=PngImageFile,
        cost=png_cost,
        ends_early=truncation.png_ends_early,
        option=None,
    ),
    Format(
        name="WEBP",
        title="WebP",
        suffixes=(".webp",),
        recognises=lambda body: body.startswith(b"RIFF") and body[8:12] == b"WEBP",
        check=lambda _body, _limits: None,
        reader=WebPImageFile,
        cost=FrameCost(bytes_per_pixel=12.0, ns_per_pixel=24.0, ns_per_byte=70.0),
        ends_early=truncation.webp_ends_early,
        option=None,
    ),
    Format(
        name="GIF",
        title="GIF",
        suffixes=(".gif",),
        recognises=_magic(b"GIF87a", b"GIF89a"),
        check=lambda _body, _limits: None,
        reader=GifImageFile,
        cost=FrameCost(bytes_per_pixel=1.0, ns_per_pixel=8.0, ns_per_byte=4.0),
        ends_early=truncation.gif_ends_early,
        option=None,
    ),
    Format(
        name="AVIF",
        title="AVIF",
        suffixes=(".avif",),
        recognises=lambda body: not brands(body).isdisjoint({b"avif", b"avis"}),
        check=lambda body, _: check_boxes(body),
        reader=_open_avif,
        cost=FrameCost(bytes_per_pixel=10.0, ns_per_pixel=25.0, ns_per_byte=90.0),
        ends_early=truncation.media_ends_early,
        option=None,
    ),
    Format(
        name="HEIF",
        title="HEIC",
        suffixes=(".heic", ".heif", ".hif"),
        recognises=lambda body: not brands(body).isdisjoint(_HEIF_BRANDS),
        check=lambda body, _: check_boxes(body),
        reader=heic.open_heif,
        cost=FrameCost(bytes_per_pixel=10.0, ns_per_pixel=30.0, ns_per_byte=90.0),
        ends_early=truncation.media_ends_early,
        option=Option(lambda limits: limits.heic, heic.HOW),
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


def ends_early(body: bytes) -> bool:
    """Whether a photo lacks its end; False for what is none."""
    found = _recognised(body)
    return found is not None and found.ends_early(body)


def photo_suffixes() -> frozenset[str]:
    """Of all files that are photos by their names, whether they are read or not."""
    return UNREAD_SUFFIXES.union(*(each.suffixes for each in FORMATS))


def published() -> dict[str, Any]:
    """What other programs must know to agree with the service on what a photo is."""
    return {
        "formats": [
            {"name": each.name, "suffixes": each.suffixes, "by_default": each.option is None} for each in FORMATS
        ],
        "unread_suffixes": sorted(UNREAD_SUFFIXES),
    }


def _recognised(body: bytes) -> Format[Any] | None:
    return next((each for each in FORMATS if each.recognises(body)), None)
