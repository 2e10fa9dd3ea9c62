"""What a photo's bytes say before anything decodes them: the format by its magic number, the build of its file. Pure.

The decoders' own readers trust these structures. What is refused here costs them seconds: floods of small chunks, or
lists of items that they search one by one. JPEG has a module of its own.
"""

from typing import Final

from consumer.errors import PhotoRejected

_MAGIC: Final = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"RIFF": "WEBP",
}
_HEIF_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})

#: Chunks that are inflated when they are met, to a megabyte each, before the image.
_INFLATED_CHUNKS: Final = frozenset({b"iCCP", b"zTXt", b"iTXt"})
_MAX_INFLATED_CHUNKS: Final = 100
_MAX_CHUNKS: Final = 40_000

#: The list of a file's items. Those of cameras have some kilobytes; libavif searches it once for each entry.
_MAX_META_BYTES: Final = 512 * 1024
_MAX_BOXES: Final = 1_000


def sniff(body: bytes) -> str:
    """Pillow's name of the format, by its first bytes: a Content-Type or a file name proves nothing.

    Raises:
        PhotoRejected: `empty_body` or `unsupported_format`.
    """
    if not body:
        raise PhotoRejected("empty_body", "the photo has no bytes")
    for start, name in _MAGIC.items():
        if body.startswith(start) and (name != "WEBP" or body[8:12] == b"WEBP"):
            return name
    if body[4:8] == b"ftyp":
        brands = _brands(body)
        if {b"avif", b"avis"} & brands:
            return "AVIF"
        if _HEIF_BRANDS & brands:
            return "HEIF"
    raise PhotoRejected("unsupported_format", f"starts with {body[:16]!r}; JPEG, PNG, WebP, GIF and AVIF are read")


def check_png(body: bytes) -> None:
    """Refuses a flood of chunks, or of those that Pillow inflates.

    Raises:
        PhotoRejected: `corrupt_image`.
    """
    at, inflated = 8, 0
    for _ in range(_MAX_CHUNKS):
        if at >= len(body):
            return
        inflated += body[at + 4 : at + 8] in _INFLATED_CHUNKS
        if inflated > _MAX_INFLATED_CHUNKS:
            raise PhotoRejected("corrupt_image", f"PNG: more than {_MAX_INFLATED_CHUNKS} compressed metadata chunks")
        at += 12 + int.from_bytes(body[at : at + 4])
    raise PhotoRejected("corrupt_image", f"PNG: more than {_MAX_CHUNKS} chunks")


def check_boxes(body: bytes) -> None:
    """Refuses an AVIF or HEIF file whose list of items is absurdly long.

    Raises:
        PhotoRejected: `corrupt_image`.
    """
    at = 0
    for _ in range(_MAX_BOXES):
        size, kind = int.from_bytes(body[at : at + 4]), body[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(body[at + 8 : at + 16])
        elif size == 0:
            size = len(body) - at
        if kind in {b"meta", b"moov"} and min(size, len(body) - at) > _MAX_META_BYTES:
            raise PhotoRejected("corrupt_image", f"a {kind.decode()} box of more than {_MAX_META_BYTES} bytes")
        at += max(size, 8)
        if at >= len(body):
            return
    raise PhotoRejected("corrupt_image", f"more than {_MAX_BOXES} boxes")


def _brands(body: bytes) -> set[bytes]:
    """The brands in the `ftyp` box of an ISO media file: the major one and the compatible ones."""
    end = min(int.from_bytes(body[:4]), len(body), 256)
    return {body[8:12]} | {body[at : at + 4] for at in range(16, end - 3, 4)}
