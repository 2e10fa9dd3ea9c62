"""Files made to hurt a decoder, in every format that is read: bombs, floods, truncations, lies. Made, never stored.

Each has a name that says what is wrong with it and, where it is known, the only outcomes that are right.
"""

import random
import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from PIL import Image

from tests.hostile_parts import (
    FULL,
    HALF,
    IEND,
    avif_grid,
    box,
    chunk,
    even_png,
    exif,
    find_box,
    flipped,
    frame,
    full_box,
    gif,
    ihdr,
    inserted,
    jpeg,
    png,
    riff,
    scan,
    scan_bomb,
    segment,
    sub_blocks,
    vp8x,
)  # fmt: skip
from tests.unit.photos import encoded, photo

Outcomes = frozenset[str] | None
PIXELS: Final = frozenset({"pixels"})
CORRUPT: Final = frozenset({"corrupt_image"})
BIG: Final = frozenset({"too_many_pixels"})
SCANS: Final = frozenset({"too_many_scans"})
UNSUPPORTED: Final = frozenset({"unsupported_format"})
#: Of what a strict reader refuses and a tolerant one accepts.
EITHER: Final = PIXELS | CORRUPT
MB: Final = 1_000_000


class HostileFile(NamedTuple):
    name: str
    body: bytes
    outcomes: Outcomes = None


def files() -> Iterator[HostileFile]:
    """All of them, each made when it is asked for."""
    for family in (jpegs, jpeg_scans, jpeg_metadata, pngs, png_floods, gifs, webps, avifs, others, damaged):
        yield from family()


def seeds() -> dict[str, bytes]:
    """One small sound photo for each way in which formats are read."""
    image = photo(96, 80)
    deep = Image.frombytes("I;16", (96, 80), bytes(range(256)) * 60)
    second = photo(96, 80, seed=2)
    several = {"save_all": True, "append_images": [second]}
    return {
        "baseline": encoded(image, "JPEG"),
        "progressive": encoded(image, "JPEG", progressive=True, quality=90),
        "grey": encoded(image.convert("L"), "JPEG"),
        "cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "restarts": encoded(image, "JPEG", restart_marker_blocks=2, subsampling=0),
        "mpo": encoded(image, "MPO", **several),
        "rotated": encoded(image, "JPEG", exif=b"Exif\0\0" + exif((0x0112, 3, 1, b"\6\0\0\0"))),
        "png": encoded(image, "PNG"),
        "png palette": encoded(image.quantize(64), "PNG", transparency=3),
        "png alpha": encoded(image.convert("RGBA"), "PNG"),
        "png deep": encoded(deep, "PNG"),
        "png one bit": encoded(image.convert("1"), "PNG"),
        "apng": encoded(image, "PNG", **several),
        "gif": encoded(image, "GIF"),
        "gif moving": encoded(image, "GIF", **several),
        "webp": encoded(image, "WEBP"),
        "webp lossless": encoded(image.convert("RGBA"), "WEBP", lossless=True),
        "webp moving": encoded(image, "WEBP", **several),
        "avif": encoded(image, "AVIF", speed=10),
        "avif alpha": encoded(image.convert("RGBA"), "AVIF", speed=10),
        "avif moving": encoded(image, "AVIF", speed=10, **several),
    }


def jpegs() -> Iterator[HostileFile]:
    sound = frame(0xC0, 64, 64) + scan([1, 2, 3], 0, 63)
    yield HostileFile("jpeg: no entropy data at all", jpeg(sound), EITHER)
    for code in (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF):
        yield HostileFile(f"jpeg: frame {code:x}", jpeg(frame(code, 64, 64), scan([1, 2, 3], 0, 63)), UNSUPPORTED)
    for bits in (2, 12, 16):
        yield HostileFile(f"jpeg: {bits} bits", jpeg(frame(0xC1, 64, 64, bits=bits), scan([1], 0, 63)), UNSUPPORTED)
    yield HostileFile("jpeg: two frames", jpeg(frame(0xC0, 64, 64), sound), CORRUPT)
    yield HostileFile("jpeg: no frame", jpeg(scan([1, 2, 3], 0, 63)), CORRUPT)
    yield HostileFile("jpeg: no scan", jpeg(frame(0xC0, 64, 64)), CORRUPT)
    yield HostileFile("jpeg: no tables", b"\xff\xd8" + sound + b"\xff\xd9", EITHER)
    yield HostileFile("jpeg: tables after the frame are missing", jpeg(sound).replace(b"\xff\xdb", b"\xff\xef"), EITHER)
    for width, height in ((0, 64), (64, 0), (0, 0)):
        yield HostileFile(f"jpeg: {width}x{height}", jpeg(frame(0xC0, width, height), scan([1, 2, 3], 0, 63)), None)
    for width, height in ((65_535, 65_535), (65_500, 800), (30_001, 20)):
        body = jpeg(frame(0xC0, width, height), scan([1, 2, 3], 0, 63))
        yield HostileFile(f"jpeg: {width}x{height} without data", body, BIG)
    for factors in (0x00, 0x10, 0x44, 0x5F, 0xFF):
        parts = ((1, factors), (2, 0x11), (3, 0x11))
        yield HostileFile(f"jpeg: sampling {factors:02x}", jpeg(frame(0xC0, 640, 640, parts), scan([1, 2, 3], 0, 63)))
    for count in (0, 2, 4, 5, 10, 255):
        parts = tuple((name, 0x11) for name in range(1, count + 1))
        body = jpeg(frame(0xC0, 64, 64, parts), scan([name for name, _ in parts][:4], 0, 63))
        yield HostileFile(f"jpeg: {count} components", body)
    same = ((1, 0x11), (1, 0x11), (1, 0x11))
    yield HostileFile("jpeg: components of one name", jpeg(frame(0xC0, 64, 64, same), scan([1, 1, 1], 0, 63)))
    tall = jpeg(frame(0xC2, 16, 30_000, ((1, 0x44), (2, 0x11), (3, 0x11))), scan([1, 2, 3], 0, 0))
    yield HostileFile("jpeg: a sliver with the widest sampling", tall)
    yield HostileFile("jpeg: 50 MP of nothing", jpeg(frame(0xC0, 7064, 7064), scan([1, 2, 3], 0, 63)), EITHER)
    cmyk = jpeg(frame(0xC2, 7064, 7064, (*FULL, (4, 0x11))), scan([1, 2, 3, 4], 0, 0))
    yield HostileFile("jpeg: 50 MP of progressive CMYK", cmyk)


def jpeg_scans() -> Iterator[HostileFile]:
    yield HostileFile("jpeg: 500 scans of a small picture", scan_bomb(640, 480, 500), SCANS)
    yield HostileFile("jpeg: 90 scans of 50 MP", scan_bomb(7064, 7064, 90), SCANS)
    yield HostileFile("jpeg: 10 scans of 50 MP", scan_bomb(7064, 7064, 10))
    yield HostileFile("jpeg: 90 first scans of 12 MP", scan_bomb(4000, 3000, 90, refine=False))
    yield HostileFile("jpeg: 60 scans of 12 MP", scan_bomb(4000, 3000, 60))
    apart = b"".join(scan([name], 0, 63) for name, _ in FULL)
    yield HostileFile("jpeg: sequential, 300 scans", jpeg(frame(0xC0, 640, 640), apart * 100), SCANS)
    yield HostileFile("jpeg: sequential, 60 scans of 40 MP", jpeg(frame(0xC0, 8000, 5000), apart * 20), SCANS)
    yield HostileFile("jpeg: the second scan is missing", jpeg(frame(0xC0, 640, 640), scan([1], 0, 63)), EITHER)
    hidden = scan([1, 2, 3], 0, 0) + segment(0xFE, b"\xff\xd9") + scan([1], 1, 63) * 400
    yield HostileFile("jpeg: scans behind a hidden end", jpeg(frame(0xC2, 640, 640, HALF), hidden), SCANS)
    odd = b"".join(scan([1], first, last, bits) for first, last, bits in ((1, 0, 0), (63, 1, 0x11), (0, 63, 0xFF)))
    yield HostileFile("jpeg: scans of impossible bands", jpeg(frame(0xC2, 640, 640), odd))
    yield HostileFile("jpeg: a scan of unknown components", jpeg(frame(0xC2, 640, 640), scan([9, 8], 0, 0)))
    data = random.Random(1).randbytes(4 * MB).replace(b"\xff", b"\0")
    table = segment(0xC4, b"\x10" + bytes([0] * 7 + [255] + [0] * 8) + bytes(range(255)))
    noise = jpeg(frame(0xC2, 4000, 3000), table, *(scan([name], 0, 0, data=bytes(99_999)) for name in (1, 2, 3)),
                 *(scan([name], 1, 63, 0, data) for name in (1, 2, 3)))  # fmt: skip
    yield HostileFile("jpeg: 12 MB of noise in a progressive file", noise, EITHER)


def jpeg_metadata() -> Iterator[HostileFile]:
    body = encoded(photo(320, 240), "JPEG")
    block = segment(0xE5, bytes(65_000))
    yield HostileFile("jpeg: 8 MB of application segments", inserted(body, block * 125), PIXELS)
    yield HostileFile("jpeg: 200000 empty comments", inserted(body, segment(0xFE, b"") * 200_000), CORRUPT)
    yield HostileFile("jpeg: 5 MB of junk between segments", inserted(body, segment(0xFE, b""), bytes(5 * MB)), CORRUPT)
    yield HostileFile("jpeg: 5 MB of fill bytes", inserted(body, b"\xff" * 5 * MB), CORRUPT)
    yield HostileFile(
        "jpeg: 4000 EXIF segments", inserted(body, segment(0xE1, b"Exif\0\0" + bytes(4000)) * 4000), CORRUPT
    )
    yield HostileFile(
        "jpeg: 60 kB of EXIF", inserted(body, segment(0xE1, b"Exif\0\0" + exif() + bytes(60_000))), PIXELS
    )
    orientation = 0x0112
    blocks = {
        "points at itself": exif((0x8769, 4, 1, struct.pack("<I", 8)), next_ifd=8),
        "a huge count": exif((orientation, 3, 0xFFFFFFFF, b"\0\0\0\0")),
        "far away": exif((orientation, 4, 2, struct.pack("<I", 0xFFFFFFF0))),
        "a text": exif((orientation, 2, 2, b"6\0\0\0")),
        "a fraction by zero": exif((orientation, 5, 1, struct.pack("<I", 0)), (0x011A, 5, 1, struct.pack("<I", 8))),
        "an unknown type": exif((orientation, 99, 1, b"\6\0\0\0")),
        "1000 entries": exif(*((tag, 3, 1, b"\6\0\0\0") for tag in range(1000))),
        "cut": exif((orientation, 3, 1, b"\6\0\0\0"))[:14],
        "65535 entries promised": b"II*\0\x08\0\0\0\xff\xff",
        "nonsense": b"II\xff\xff" + bytes(100),
        "out of range": exif((orientation, 3, 1, struct.pack(">HH", 200, 0)), order=">"),
    }
    for name, exif_block in blocks.items():
        made = inserted(body, segment(0xE1, b"Exif\0\0" + exif_block))
        yield HostileFile(f"jpeg: EXIF, orientation {name}", made, PIXELS)
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b'tiff:Orientation="9' + b"<x>" * 20_000)
    yield HostileFile("jpeg: XMP without an end", inserted(body, xmp), PIXELS)
    for payload in (
        b"",
        b"MPF\0",
        b"MPF\0II*\0\x08\0\0\0\xff\xff",
        b"MPF\0" + exif((0xB001, 4, 1, b"\xff\xff\xff\x7f")),
    ):
        yield HostileFile(f"jpeg: picture index {payload[:12]!r}", inserted(body, segment(0xE2, payload)), PIXELS)
    for number, profile in enumerate((bytes(200), b"\xff" * 5000, struct.pack(">I", 0xFFFFFFFF) + bytes(124))):
        made = inserted(encoded(photo(64, 64).convert("CMYK"), "JPEG"), segment(0xE2, b"ICC_PROFILE\0\1\1" + profile))
        yield HostileFile(f"jpeg: broken profile {number} of a CMYK photo", made, PIXELS)
    yield HostileFile(
        "jpeg: Photoshop block of length 0", inserted(body, segment(0xED, b"Photoshop 3.0\0" + b"8BIM" * 9000)), PIXELS
    )
    for transform in (0, 1, 2, 9, 255):
        made = inserted(body, segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform])))
        yield HostileFile(f"jpeg: Adobe transform {transform} of three colours", made, PIXELS)
    yield HostileFile("jpeg: an application segment of length 0", body[:2] + b"\xff\xe1\0\0" + body[2:])
    yield HostileFile("jpeg: an application segment beyond the end", body[:2] + b"\xff\xe1\xff\xff" + body[2:200])
    yield HostileFile("jpeg: then a ZIP and HTML", body + b"PK\3\4" + b"<html><script>" * 100, PIXELS)


def pngs() -> Iterator[HostileFile]:
    for size in ((2**31 - 1, 2**31 - 1), (2**32 - 1, 1), (60_000, 60_000), (1, 50_000_000), (12_000, 12_000)):
        yield HostileFile(f"png: {size}", png(ihdr(*size), chunk(b"IDAT", zlib.compress(bytes(99)))), BIG)
    yield HostileFile("png: 0x0", png(ihdr(0, 0), chunk(b"IDAT", b""), IEND))
    alpha = 6
    yield HostileFile("png: 50 MP of 16-bit RGBA", even_png(7064, 7064, 16, alpha, kind=4), BIG)
    yield HostileFile("png: 50 MP of RGB", even_png(7064, 7064, 8, 2, kind=4), PIXELS)
    yield HostileFile("png: 16 MP of 16-bit RGBA", even_png(4000, 4000, 16, alpha, kind=4), PIXELS)
    yield HostileFile("png: 16 MP of 16-bit RGBA, interlaced", even_png(4000, 4000, 16, alpha, kind=4, interlace=1))
    yield HostileFile("png: 28 MP of grey with alpha", even_png(7000, 4000, 8, 4, kind=4))
    clear = chunk(b"tRNS", b"\0\1")
    yield HostileFile("png: 20 MP of 16-bit grey, one transparent", even_png(5000, 4000, 16, 0, clear, kind=4))
    yield HostileFile("png: a sliver", even_png(16, 29_999, 8, 2, kind=4), PIXELS)
    yield HostileFile("png: one row", even_png(29_999, 1, 8, 2), frozenset({"image_too_small"}))
    plain = chunk(b"IDAT", zlib.compress(bytes(100 * 301)))
    bomb = zlib.compress(bytes(300 * MB), 1)
    yield HostileFile("png: 300 MB behind a small picture", png(ihdr(100, 100), chunk(b"IDAT", bomb), IEND), EITHER)
    yield HostileFile("png: two headers", png(ihdr(100, 100), ihdr(9000, 9000, 16, 6), plain, IEND))
    yield HostileFile("png: header after the image", png(plain, ihdr(100, 100), IEND), CORRUPT)
    yield HostileFile("png: no palette", png(ihdr(64, 64, 8, 3), chunk(b"IDAT", zlib.compress(bytes(65 * 64))), IEND))
    for length in (0, 1, 3, 769, 100_000):
        body = png(ihdr(64, 64, 8, 3), chunk(b"PLTE", bytes(length)), chunk(b"tRNS", bytes(length)),
                   chunk(b"IDAT", zlib.compress(b"\0" + b"\xff" * 64) * 1), IEND)  # fmt: skip
        yield HostileFile(f"png: palette and transparency of {length} bytes", body)
    for bits, colour in ((16, 3), (3, 0), (4, 2), (1, 6), (255, 255), (8, 5), (0, 0)):
        yield HostileFile(f"png: {bits} bits of colour type {colour}", png(ihdr(64, 64, bits, colour), plain, IEND))
    for colour, length in ((0, 0), (0, 1), (2, 2), (2, 7), (6, 6), (4, 2)):
        body = png(ihdr(100, 100, 8, colour), chunk(b"tRNS", bytes(length)), plain, IEND)
        yield HostileFile(f"png: transparency of {length} bytes on colour type {colour}", body)
    yield HostileFile(
        "png: filters that do not exist",
        png(ihdr(100, 100), chunk(b"IDAT", zlib.compress(b"\x09" * 30_100)), IEND),
        EITHER,
    )
    for length in (0x7FFFFFFF, 0xFFFFFFFF, 0x80000000):
        body = png(ihdr(100, 100), struct.pack(">I", length) + b"IDAT" + zlib.compress(bytes(30_100)))
        yield HostileFile(f"png: a chunk of {length} bytes", body)
    yield HostileFile("png: wrong checksums", flipped(encoded(photo(64, 64), "PNG"), [(-5, 1), (29, 1)]))


def png_floods() -> Iterator[HostileFile]:
    head, image = ihdr(100, 100), chunk(b"IDAT", zlib.compress(bytes(100 * 301)))
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(60 * MB), 9))
    yield HostileFile("png: 60 MB of text in 60 kB", png(head, text, image, IEND), PIXELS)
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(990_000), 9))
    yield HostileFile(
        "png: a profile of 60 MB",
        png(head, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(60 * MB), 9)), image, IEND),
        PIXELS,
    )
    yield HostileFile("png: 5000 profiles of a megabyte", png(head, profile * 5000, image, IEND), PIXELS)
    yield HostileFile(
        "png: 5000 texts after the image",
        png(head, image, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000), 9)) * 5000, IEND),
        PIXELS,
    )
    for kind in (b"IDAT", b"tEXt", b"abCd", b"fdAT", b"tIME", b"eXIf"):
        yield HostileFile(
            f"png: 500000 empty {kind.decode()} chunks", png(head, chunk(kind, b"") * 500_000, image, IEND), EITHER
        )
        yield HostileFile(
            f"png: 30000 empty {kind.decode()} chunks at the end", png(head, image, chunk(kind, b"") * 30_000, IEND)
        )
    moving = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    control = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 100, 100, 0, 0, 1, 1, 0, 0))
    far = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 9000, 9000, 2**31 - 1, 2**31 - 1, 0, 0, 9, 9))
    yield HostileFile("apng: 2147483647 frames", png(head, moving, control, image, IEND), PIXELS)
    yield HostileFile("apng: a frame outside the picture", png(head, moving, far, image, IEND), PIXELS)
    yield HostileFile("apng: 0 frames", png(head, chunk(b"acTL", bytes(8)), control, image, IEND), PIXELS)
    yield HostileFile("apng: 20000 controls before the image", png(head, moving, control * 20_000, image, IEND), PIXELS)


def gifs() -> Iterator[HostileFile]:
    yield HostileFile("gif: a frame far outside the screen", gif(100, 100, box=(65_000, 65_000, 535, 535)), BIG)
    yield HostileFile("gif: a frame of 65535x65535", gif(100, 100, box=(0, 0, 65_535, 65_535)), BIG)
    yield HostileFile("gif: a screen of 65535x65535", gif(65_535, 65_535, box=(0, 0, 10, 10)), BIG)
    yield HostileFile("gif: a screen of 7064x7064, a frame of one pixel", gif(7064, 7064, box=(0, 0, 1, 1)), EITHER)
    for size in ((0, 0), (0, 100), (100, 0)):
        yield HostileFile(f"gif: {size}", gif(*size))
    for bits in (0, 1, 11, 12, 13, 200, 255):
        yield HostileFile(f"gif: codes of {bits} bits", gif(100, 100, lzw=bytes([bits]) + sub_blocks(bytes(5000))))
    yield HostileFile("gif: 15 MB of codes that clear", gif(100, 100, lzw=b"\2" + sub_blocks(b"\x24\x49\x92" * 5 * MB)))
    yield HostileFile(
        "gif: 15 MB of noise", gif(7000, 7000, lzw=b"\x08" + sub_blocks(random.Random(2).randbytes(15 * MB)))
    )
    comment = b"!\xfe" + sub_blocks(bytes(8 * MB))
    yield HostileFile("gif: a comment of 8 MB", gif(100, 100, comment), EITHER)
    yield HostileFile("gif: a comment of 1 byte blocks", gif(100, 100, b"!\xfe" + sub_blocks(bytes(2 * MB), 1)), EITHER)
    yield HostileFile("gif: 200000 comments", gif(100, 100, b"!\xfe\1a\0" * 200_000), EITHER)
    yield HostileFile("gif: 5 MB of junk", gif(100, 100, bytes(5 * MB)), EITHER)
    yield HostileFile("gif: 300000 application blocks", gif(100, 100, b"!\xff\0" * 300_000), EITHER)
    yield HostileFile("gif: cut after the screen", gif(100, 100)[:13], CORRUPT)
    one = gif(100, 100)
    yield HostileFile("gif: 50000 frames", one[:-1] + one[19:-1] * 50_000 + b";")
    yield HostileFile("gif: no frame", gif(100, 100)[:19] + b";", CORRUPT)


def webps() -> Iterator[HostileFile]:
    still = encoded(photo(96, 80), "WEBP")
    picture = (b"VP8 ", still[20:])
    yield HostileFile("webp: a canvas of 16777216x16777216", riff(vp8x(2**24, 2**24, 2), picture))
    yield HostileFile("webp: a canvas of 16383x16383", riff(vp8x(16_383, 16_383), picture))
    lossless = struct.pack("<BI", 0x2F, 16_383 | 16_383 << 14)
    yield HostileFile("webp: 16384x16384 of nothing", riff((b"VP8L", lossless)), BIG | CORRUPT)
    bits = random.Random(3).randbytes(2 * MB)
    yield HostileFile(
        "webp: lossless noise", riff((b"VP8L", struct.pack("<BI", 0x2F, 3999 | 2999 << 14) + bits)), EITHER
    )
    header = b"\x10\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 7000, 7000)
    yield HostileFile("webp: lossy noise", riff((b"VP8 ", header + bits)), EITHER)
    at = (0).to_bytes(3, "little") * 2 + (95).to_bytes(3, "little") + (79).to_bytes(3, "little") + bytes(4)
    moving = (b"ANIM", bytes(6))
    yield HostileFile("webp: 100000 frames", riff(vp8x(96, 80, 2), moving, *[(b"ANMF", at)] * 100_000))
    far = b"\xff" * 6 + at[6:] + b"VP8 " + struct.pack("<I", len(picture[1])) + picture[1]
    yield HostileFile("webp: a frame outside the canvas", riff(vp8x(96, 80, 2), moving, (b"ANMF", far)))
    yield HostileFile("webp: alpha of noise", riff(vp8x(96, 80, 16), (b"ALPH", bits[:9999]), picture))
    yield HostileFile("webp: 500000 unknown chunks", riff(vp8x(96, 80), *[(b"abcd", b"")] * 500_000, picture))
    yield HostileFile("webp: 20 MB of EXIF", riff(vp8x(96, 80, 8), picture, (b"EXIF", bytes(20 * MB))))
    for size in (0, 4, 2**32 - 1):
        yield HostileFile(f"webp: a length of {size}", riff(picture, size=size))
    yield HostileFile(
        "webp: 30 MP of black",
        encoded(Image.new("RGB", (7500, 4000)), "WEBP", lossless=True, quality=0, method=0),
        PIXELS,
    )


def avifs() -> Iterator[HostileFile]:
    tile = encoded(Image.new("RGB", (1000, 1000), (9, 99, 199)), "AVIF", speed=10)
    yield HostileFile(
        "avif: a grid of 12000x12000 in a few kB", avif_grid(tile, 12, 12, width=12_000, height=12_000), BIG
    )
    yield HostileFile("avif: a grid of 3000x2000", avif_grid(tile, 3, 2, width=3000, height=2000), EITHER)
    yield HostileFile("avif: a grid of itself", avif_grid(tile, 2, 2, width=2000, height=2000, loop=True), CORRUPT)
    yield HostileFile("avif: a grid larger than its cells", avif_grid(tile, 2, 2, width=9000, height=9000))
    start, _ = find_box(tile, b"ispe")
    for width, height in ((12_000, 12_000), (2**32 - 1, 2**32 - 1), (0, 0), (7000, 7000), (16, 16)):
        lie = tile[: start + 4] + struct.pack(">II", width, height) + tile[start + 12 :]
        yield HostileFile(f"avif: 1000x1000 that says {width}x{height}", lie)
    head = box(b"ftyp", b"avif", bytes(4), b"avifmif1")
    entries = [full_box(b"infe", struct.pack(">HH", i % 65_536, 0), b"av01\0", version=2) for i in range(20_000)]
    handler = full_box(b"hdlr", bytes(4), b"pict", bytes(13))
    for count in (2_000, 20_000):
        items = full_box(b"iinf", struct.pack(">H", count), *entries[:count])
        yield HostileFile(f"avif: {count} items", head + full_box(b"meta", handler, items), CORRUPT)
    yield HostileFile("avif: a million items", head + full_box(b"meta", handler, entries[0] * 900_000), CORRUPT)
    yield HostileFile("avif: a million boxes", head + box(b"free") * 1_000_000, CORRUPT)
    for size in (0, 1, 7):
        yield HostileFile(
            f"avif: a box of {size} bytes", head + struct.pack(">I", size) + b"meta" + bytes(100), CORRUPT
        )
    yield HostileFile("avif: a box that never ends", head + struct.pack(">I4sQ", 1, b"meta", 2**63), CORRUPT)
    yield HostileFile("avif: boxes in boxes", head + nested(2000), CORRUPT)
    picture = encoded(photo(300, 200), "AVIF", speed=10)
    start, end = find_box(picture, b"mdat")
    yield HostileFile(
        "avif: noise for AV1", picture[: start + 8] + random.Random(4).randbytes(end - start - 8) + picture[end:]
    )
    yield HostileFile("heic", box(b"ftyp", b"heic", bytes(4), b"mif1heic") + bytes(100), UNSUPPORTED)


def nested(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = box(b"iprp", body)
    return full_box(b"meta", body)


def others() -> Iterator[HostileFile]:
    texts = {
        "html": b"<!doctype html><html>404</html>", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n", "pdf": b"%PDF-1.7\n", "gzip": b"\x1f\x8b\x08\0", "zip": b"PK\3\4",
        "psd": b"8BPS\0\1", "jxl": b"\xff\n\xfa", "jxl box": b"\0\0\0\x0cJXL \r\n\x87\n", "riff": b"RIFF\0\0\0\0WAVE",
        "jp2": b"\0\0\0\x0cjP  \r\n\x87\n", "fits": b"SIMPLE  =                    T", "one byte": b"\xff",
        "mp4": box(b"ftyp", b"isom", bytes(4), b"isommp42"), "nulls": bytes(1000), "bmp": b"BM", "tiff": b"II*\0",
        "xbm": b"#define im_width 9", "half a jpeg magic": b"\xff\xd8", "utf-16": "<html>".encode("utf-16"),
        "pdf then jpeg": b"%PDF-1.4\n\xff\xd8\xff",
    }  # fmt: skip
    for name, start in texts.items():
        yield HostileFile(f"other: {name}", start + bytes(64), UNSUPPORTED)
    yield HostileFile("other: nothing", b"", frozenset({"empty_body"}))
    image = photo(64, 64)
    for name in ("BMP", "TIFF", "ICO", "PPM", "TGA", "PDF", "EPS", "JPEG2000", "DDS", "PCX", "SGI", "IM", "MSP"):
        made = encoded(image.convert("1") if name == "MSP" else image, name)
        yield HostileFile(f"other: {name} of the decoder", made, UNSUPPORTED)
    jpeg_body = encoded(image, "JPEG")
    yield HostileFile("polyglot: GIF header on a JPEG", b"GIF89a" + jpeg_body, EITHER | BIG)
    yield HostileFile("polyglot: PNG header on a JPEG", b"\x89PNG\r\n\x1a\n" + jpeg_body, EITHER)
    yield HostileFile("polyglot: JPEG header on a PNG", b"\xff\xd8\xff\xe0" + encoded(image, "PNG"), EITHER)
    yield HostileFile("polyglot: GIF that is JavaScript", b"GIF89a=1/*" + gif(64, 64)[10:-1] + b"*/;alert(1)")
    yield HostileFile("polyglot: PNG, then a JPEG", encoded(image, "PNG") + jpeg_body, PIXELS)


def damaged() -> Iterator[HostileFile]:
    """Every seed cut at many places, and with a few bytes replaced; what remains of it may be accepted."""
    for name, body in seeds().items():
        for part in range(1, 20):
            yield HostileFile(f"{name}: the first {part * 5}%", body[: max(len(body) * part // 20, 1)])
        for seed in range(30):
            chance = random.Random(seed)
            reach = len(body) if seed % 2 else min(len(body), 120)
            places = [(chance.randrange(reach), chance.randrange(256)) for _ in range(chance.choice((1, 2, 8)))]
            yield HostileFile(f"{name}: damage {seed}", flipped(body, places))
