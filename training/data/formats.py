"""Image formats, recognised by a file's first bytes, never by its name: those that the service reads, and others."""

import json
from functools import cache
from importlib.resources import files
from typing import Final

#: Enough of a file for `format_of`.
HEAD_BYTES: Final = 256
_AVIF: Final = frozenset({b"avif", b"avis"})
_HEIC: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_STARTS: Final = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("GIF", b"GIF87a"),
    ("GIF", b"GIF89a"),
    ("TIFF", b"II*\0"),
    ("TIFF", b"MM\0*"),
    ("TIFF", b"II+\0"),
    ("TIFF", b"MM\0+"),
    ("JPEG XL", b"\xff\x0a"),
    ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n"),
    ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n"),
    ("JPEG 2000", b"\xff\x4f\xff\x51"),
    ("PSD", b"8BPS"),
)


@cache
def _published() -> tuple[frozenset[str], frozenset[str]]:
    """Pillow's names of the formats that every service reads, and all suffixes of photos, in lower case.

    The service publishes its formats (`photo-tagger schemas`); this package has a copy, which a test keeps equal.
    """
    published = json.loads(files("training.data").joinpath("image-formats.json").read_bytes())
    suffixes = [suffix for each in published["formats"] for suffix in each["suffixes"]]
    read = frozenset(each["name"] for each in published["formats"] if each["by_default"])
    return read, frozenset([*suffixes, *published["unread_suffixes"]])


def served() -> frozenset[str]:
    """Pillow's names of the formats that every service reads; photos in others are not trained on."""
    return _published()[0]


def photo_suffixes() -> frozenset[str]:
    """The suffixes of photos in any format, in lower case, with the dot."""
    return _published()[1]


def format_of(head: bytes) -> str:
    """The image format of a file by its first HEAD_BYTES: Pillow's name for one of `served`, a title for others.

    Empty for what is no photo: text, pages, PostScript, films.
    """
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[place : place + 4] for place in range(16, int.from_bytes(head[:4]), 4))}
        return "AVIF" if brands & _AVIF else "HEIC" if brands & _HEIC else ""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(b"BM") and head[6:10] == b"\0\0\0\0":  # the reserved bytes, as two letters may begin a text
        return "BMP"
    return next((name for name, start in _STARTS if head.startswith(start)), "")
