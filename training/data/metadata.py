"""The bytes of a photo without the metadata that is not needed to see it. Pure.

The readers fail on faults in metadata, and inflate some of it; browsers skip it, and show the picture. What is kept is
what decides the pixels: transparency, orientation and the colour profile, where they are sound. A photo from which
nothing is dropped is returned as it is. Faults of the picture itself stay, for the reader to refuse.

Training uses a copy of this file, so that it sees the same pixels; `make schemas` writes it, a test compares both.
"""

import re
import zlib
from collections.abc import Iterator
from typing import Final

#: Length, type and checksum of a PNG chunk; the bit of the type's first letter that says that no reader needs it.
_CHUNK, _ANCILLARY = 12, 0x20
#: Pillow inflates no more of one chunk.
_MAX_INFLATED_BYTES: Final = 1024 * 1024
_XMP: Final = b"XML:com.adobe.xmp\0"
#: What ImageMagick writes.
_RAW_EXIF: Final = b"Raw profile type exif\0"
#: The bytes of a tRNS chunk by colour type; as many as the palette has colours for type 3, none with an alpha channel.
_TRANSPARENT_BYTES: Final = {0: 2, 2: 6}
_PALETTE: Final = 3

#: A segment before the first scan of a JPEG: its marker and its length.
_SEGMENT: Final = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])(..)", re.DOTALL)
_ENDS: Final = frozenset({0xD8, 0xD9, 0xDA})
#: Application segments that Pillow parses, by code and start: libjpeg ignores those that are shorter.
_SHORTEST: Final = {(0xE0, b"JFIF"): 14, (0xE2, b"ICC_PROFILE\0"): 14, (0xEE, b"Adobe"): 12}
_PHOTOSHOP: Final = 0xED

_EXTENSION, _FRAME, _CONTROL = 0x21, 0x2C, 0xF9
_CONTROL_BYTES: Final = 4
_MAX_BLOCKS: Final = 100_000

_RIFF_HEAD, _CHUNK_HEADER = 12, 8
_BOX_HEADER: Final = 8
_WEBP_CHUNKS: Final = frozenset({b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L", b"EXIF", b"XMP "})
#: The flags of an extended WebP; a reader refuses others.
_WEBP_FLAGS, _ANIMATED, _ALPHA = 0x3E, 0x02, 0x10

#: An entry of the item list that names an Exif or XMP item.
_METADATA_ITEM: Final = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))(?:Exif|mime)", re.DOTALL)


def png_picture(body: bytes) -> bytes:
    """A still PNG with no ancillary chunk but sound ones of transparency, orientation and profile, one of each.

    Raises:
        ValueError: Its colours are those of a palette, and it has none; the reader would take them for shades of grey.
    """
    kept, seen, palette_bytes = [body[:8]], set[bytes](), 0
    bits, colour = int.from_bytes(body[24:25]), int.from_bytes(body[25:26])
    at, end = 8, 8
    while at + 8 <= len(body) and b"IEND" not in seen:
        kind, length = body[at + 4 : at + 8], int.from_bytes(body[at : at + 4])
        end = at + _CHUNK + length
        if not kind.isalpha():
            if b"IDAT" not in seen:
                kept.append(body[at:])
            break
        optional = kind[0] & _ANCILLARY or (kind == b"PLTE" and colour != _PALETTE)
        if not optional or (kind not in seen and _is_needed(kind, body[at + 8 : end], colour, seen, palette_bytes)):
            palette_bytes = length if kind == b"PLTE" else palette_bytes
            if kind == b"IDAT" and colour == _PALETTE and (not palette_bytes or palette_bytes % 3):
                raise ValueError("no palette, or a broken one")
            seen.add(kind)
            kept.append(_clear_shade(body[at:end], bits) if (kind, colour) == (b"tRNS", 0) else body[at:end])
        at = end
    picture = b"".join(kept)
    return picture if len(picture) < min(end, len(body)) or not body.startswith(picture) else body


def _is_needed(kind: bytes, data: bytes, colour: int, seen: set[bytes], palette_bytes: int) -> bool:
    """Whether an ancillary chunk decides the pixels and is sound; `data` ends with its checksum."""
    data, checksum = data[:-4], data[-4:]
    if kind == b"tRNS":
        wanted = _TRANSPARENT_BYTES.get(colour)
        right = 0 < len(data) <= palette_bytes // 3 if colour == _PALETTE else len(data) == wanted
        needed = right and b"IDAT" not in seen
    elif kind == b"iCCP":
        needed = _inflates(data.partition(b"\0")[2])
    elif kind == b"zTXt":
        needed = data.startswith(_RAW_EXIF) and _inflates(data[len(_RAW_EXIF) :])
    elif kind == b"iTXt":
        text = data[len(_XMP) :]
        needed = data.startswith(_XMP) and (text[:1] == b"\0" or _inflates(text[1:2] + _after_names(text[2:])))
    else:
        needed = kind == b"eXIf" or (kind == b"tEXt" and data.startswith(_RAW_EXIF))
    return needed and zlib.crc32(data, zlib.crc32(kind)).to_bytes(4) == checksum


def _clear_shade(chunk: bytes, bits: int) -> bytes:
    """The chunk of the transparent shade of grey, in 8 bits instead of 2 or 4: the reader compares it with those."""
    if bits not in {2, 4}:
        return chunk
    most = (1 << bits) - 1
    named = chunk[4:8] + ((int.from_bytes(chunk[8:10]) & most) * 255 // most).to_bytes(2)
    return chunk[:4] + named + zlib.crc32(named).to_bytes(4)


def _after_names(data: bytes) -> bytes:
    return data.split(b"\0", 2)[-1]


def _inflates(data: bytes) -> bool:
    """Whether a compression method and compressed bytes are a stream that Pillow takes."""
    if data[:1] != b"\0":
        return False
    stream = zlib.decompressobj()
    try:
        stream.decompress(data[1:], _MAX_INFLATED_BYTES)
    except zlib.error:
        return False
    return not stream.unconsumed_tail


def jpeg_picture(body: bytes) -> bytes:
    """A JPEG without Photoshop's resources and without application segments that are too short to mean anything."""
    kept, done = [], 0
    for code, start, end in _segments(body):
        named = (least for (app, name), least in _SHORTEST.items() if app == code and body.startswith(name, start + 4))
        if code == _PHOTOSHOP or end - start - 4 < next(named, 0):
            kept.append(body[done:start])
            done = end
    return b"".join((*kept, body[done:])) if done else body


def _segments(body: bytes) -> Iterator[tuple[int, int, int]]:
    """Walks the segments up to the first scan.

    Yields:
        The code of a segment, its start and its end.
    """
    at = 2
    while (found := _SEGMENT.search(body, at)) and (code := found[1][0]) not in _ENDS:
        at = found.end(1) + max(int.from_bytes(found[2]), 2)
        yield code, found.start(), at


def gif_picture(body: bytes) -> bytes:
    """A GIF without extensions before its first frame, but for sound graphic controls, which hold transparency.

    Raises:
        ValueError: A flood of blocks.
    """
    flags = int.from_bytes(body[10:11])
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    kept, done, blocks = [], 0, 0
    while body[at : at + 1] == bytes([_EXTENSION]):
        start, at = at, at + 2
        sound = body[start + 1 : start + 2] == bytes([_CONTROL]) and body[at : at + 1] >= bytes([_CONTROL_BYTES])
        while size := int.from_bytes(body[at : at + 1]):
            at += 1 + size
            blocks += 1
            if blocks > _MAX_BLOCKS:
                raise ValueError(f"more than {_MAX_BLOCKS} blocks before the first frame")
        at += 1
        if not sound:
            kept.append(body[done:start])
            done = at
    return b"".join((*kept, body[done:])) if done else body


def webp_picture(body: bytes) -> bytes:
    """A WebP of whole chunks: its picture or first frame, and one each of profile, Exif and XMP.

    What the first frame leaves of the canvas is transparent, which needs the flag that the file has transparency.
    """
    kept: dict[bytes, bytes] = {}
    for kind, start, end in riff_chunks(body):
        # Of a lossy and a lossless picture the first counts.
        name = b"VP8 " if kind == b"VP8L" else kind
        if kind in _WEBP_CHUNKS and name not in kept:
            kept[name] = body[start:end].ljust(end - start, b"\0")
    if header := bytearray(kept.get(b"VP8X", b"")[_CHUNK_HEADER:]):
        header[0] = header[0] & _WEBP_FLAGS | (_ALPHA if header[0] & _ANIMATED else 0)
        kept[b"VP8X"] = kept[b"VP8X"][:_CHUNK_HEADER] + header
    chunks = b"".join(kept.values())
    return b"RIFF" + (len(chunks) + 4).to_bytes(4, "little") + b"WEBP" + chunks


def avif_picture(body: bytes) -> bytes:
    """An AVIF that names no Exif and no XMP: `irot` and `imir` alone turn it."""
    for kind, at, size in media_boxes(body):
        if kind in {b"meta", b"moov"} and _METADATA_ITEM.search(body, at, at + size):
            body = body[:at] + _METADATA_ITEM.sub(rb"\1skip", body[at : at + size]) + body[at + size :]
    return body


def riff_chunks(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Walks the chunks of a WebP that are whole.

    Yields:
        The type of a chunk, its start and its end in bytes, padding included.
    """
    at = _RIFF_HEAD
    while at + _CHUNK_HEADER <= len(body):
        size = int.from_bytes(body[at + 4 : at + 8], "little")
        end = at + _CHUNK_HEADER + size + size % 2
        if end - size % 2 > len(body):
            return
        yield body[at : at + 4], at, end
        at = end


def media_boxes(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Walks the outer boxes of an ISO media file.

    Yields:
        The type of a box, its offset and its declared size, both in bytes; a declared 0, which means up to the end of
        the file, is replaced by that size.
    """
    at = 0
    while at + _BOX_HEADER <= len(body):
        size = int.from_bytes(body[at : at + 4])
        if size == 1:
            size = int.from_bytes(body[at + 8 : at + 16])
        elif size == 0:
            size = len(body) - at
        yield body[at + 4 : at + 8], at, size
        at += max(size, _BOX_HEADER)
