"""Small writers of image containers, for files that no encoder would write."""

import struct
import zlib
from collections.abc import Iterable, Sequence

Chunk = tuple[bytes, bytes]
ONE_CODE = bytes([1]) + bytes(15)
#: Components as (id, sampling factors): all of full size, or colour at half.
FULL = ((1, 0x11), (2, 0x11), (3, 0x11))
HALF = ((1, 0x22), (2, 0x11), (3, 0x11))


# JPEG


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def frame(code: int, width: int, height: int, components: Sequence[tuple[int, int]] = FULL, bits: int = 8) -> bytes:
    header = struct.pack(">BHHB", bits, height, width, len(components))
    return segment(code, header + b"".join(bytes([name, factors, 0]) for name, factors in components))


def scan(components: Sequence[int], first: int, last: int, bits: int = 0, data: bytes = b"") -> bytes:
    names = b"".join(bytes([name, 0]) for name in components)
    return segment(0xDA, bytes([len(components)]) + names + bytes([first, last, bits])) + data


def jpeg(*parts: bytes, ac_symbol: int = 0xE0) -> bytes:
    """A JPEG with Huffman tables of one code, `0`: no difference for DC, `ac_symbol` (a run of 16384 ends) for AC."""
    tables = segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC4, b"\0" + ONE_CODE + b"\0")
    tables += segment(0xC4, b"\x10" + ONE_CODE + bytes([ac_symbol]))
    return b"\xff\xd8" + tables + b"".join(parts) + b"\xff\xd9"


def scan_bomb(width: int, height: int, scans: int, *, refine: bool = True) -> bytes:
    """A progressive JPEG of 1:1 blocks, most of whose scans say nothing and visit every coefficient."""
    blocks = -(-width // 8) * -(-height // 8)
    start = b"".join(scan([name], 0, 0, data=bytes(blocks // 8 + 1)) for name, _ in FULL)
    # Each end-of-band code has 14 more bits: 15 zero bits are 16384 blocks.
    nothing = bytes(-(-blocks // 16384) * 15 // 8 + 1)
    return jpeg(frame(0xC2, width, height), start, scan([1], 1, 63, 0x10 if refine else 0, nothing) * scans)


def inserted(body: bytes, *parts: bytes) -> bytes:
    """A JPEG with more right after its first marker."""
    return body[:2] + b"".join(parts) + body[2:]


def exif(*entries: tuple[int, int, int, bytes], order: str = "<", next_ifd: int = 0) -> bytes:
    """An EXIF block of raw entries (tag, type, count, four bytes of value)."""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    rows = b"".join(struct.pack(order + "HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return start + struct.pack(order + "H", len(entries)) + rows + struct.pack(order + "I", next_ifd)


# PNG


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def ihdr(width: int, height: int, bits: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace))


IEND = chunk(b"IEND", b"")


def even_png(width: int, height: int, bits: int, colour: int, *more: bytes, kind: int = 0, interlace: int = 0) -> bytes:
    """A whole PNG of one repeated row with filter `kind`; interlaced, the rows of the first pass serve all others."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row_bytes = (width * bits * channels + 7) // 8
    row = bytes([kind]) + (bytes(range(1, 250)) * (row_bytes // 249 + 1))[:row_bytes]
    packer = zlib.compressobj(1)
    rows = height * 2 if interlace else height
    data = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    return png(ihdr(width, height, bits, colour, interlace), *more, chunk(b"IDAT", data), IEND)


# GIF


def gif(
    width: int, height: int, *blocks: bytes, box: tuple[int, int, int, int] | None = None, lzw: bytes | None = None
) -> bytes:
    """A GIF whose one frame lies at `box` (left, top, width, height); `lzw` is its code size and data."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    left, top, wide, high = box or (0, 0, width, height)
    data = b"\x02\x02\x4c\x01\0" if lzw is None else lzw
    return screen + b"".join(blocks) + b"," + struct.pack("<HHHHB", left, top, wide, high, 0) + data + b";"


def sub_blocks(data: bytes, size: int = 255) -> bytes:
    parts = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


# WebP and ISO media files


def riff(*chunks: Chunk, size: int | None = None) -> bytes:
    payload = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(payload) + 4 if size is None else size) + b"WEBP" + payload


def vp8x(width: int, height: int, flags: int = 0) -> Chunk:
    return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", len(data) + 8) + kind + data


def full_box(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, bytes([version]) + flags.to_bytes(3, "big"), *parts)


def find_box(body: bytes, kind: bytes) -> tuple[int, int]:
    """Where a box's content starts and ends, by its first occurrence anywhere."""
    at = body.index(kind)
    return at + 4, at - 4 + int.from_bytes(body[at - 4 : at])


def avif_grid(tile: bytes, columns: int, rows: int, *, width: int, height: int, loop: bool = False) -> bytes:
    """An AVIF whose picture is a grid of one tile, each cell an item of its own with the same bytes.

    `tile` is a plain AVIF; its AV1 data and configuration are taken over.
    """
    start, end = find_box(tile, b"av1C")
    config, pixi = tile[start:end], b"\x03\x08\x08\x08"
    ispe = tile[slice(*find_box(tile, b"ispe"))][4:]
    start, end = find_box(tile, b"mdat")
    data, cells = tile[start:end], columns * rows
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    entries = [full_box(b"infe", struct.pack(">HH", 1, 0), b"grid\0", version=2)]
    entries += [full_box(b"infe", struct.pack(">HH", 2 + i, 0), b"av01\0", version=2) for i in range(cells)]
    parts = [1] * cells if loop else [2 + i for i in range(cells)]
    links = box(b"dimg", struct.pack(f">HH{cells}H", 1, cells, *parts))
    properties = box(
        b"ipco", full_box(b"ispe", struct.pack(">II", width, height)), full_box(b"ispe", ispe),
        box(b"av1C", config), full_box(b"pixi", pixi),
    )  # fmt: skip
    uses = struct.pack(">I", cells + 1) + struct.pack(">HBBB", 1, 2, 1, 4)
    uses += b"".join(struct.pack(">HBBBB", 2 + i, 3, 2, 0x83, 4) for i in range(cells))

    def meta(data_at: int) -> bytes:
        places = struct.pack(">HHHII", 1, 0, 1, data_at, len(grid))
        places += b"".join(struct.pack(">HHHII", 2 + i, 0, 1, data_at + len(grid), len(data)) for i in range(cells))
        return full_box(
            b"meta",
            full_box(b"hdlr", bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", struct.pack(">H", 1)),
            full_box(b"iloc", b"\x44\0", struct.pack(">H", cells + 1), places),
            full_box(b"iinf", struct.pack(">H", cells + 1), *entries),
            full_box(b"iref", links),
            box(b"iprp", properties, full_box(b"ipma", uses)),
        )

    head = box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf")
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", grid, data)


def flipped(body: bytes, places: Iterable[tuple[int, int]]) -> bytes:
    """The body with some bytes replaced."""
    changed = bytearray(body)
    for at, value in places:
        changed[at % len(changed)] = value
    return bytes(changed)
