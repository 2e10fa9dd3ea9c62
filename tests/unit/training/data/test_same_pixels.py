"""Training sees a photo as the service does: what differs would be learnt and never met."""

import io
import struct
import zlib
from functools import cache

import numpy as np
import pytest

from consumer.contract import Geometry as ServedGeometry
from consumer.imaging.limits import PrepareLimits
from tests.hostile_parts import IEND, chunk, even_png, exif, ihdr, inserted, png, riff, segment, vp8x
from tests.photo_folders import photo
from tests.unit.photos import encoded, to_pixels
from training.data.decode import Geometry, decode, square


@pytest.mark.parametrize("size", [(640, 480), (301, 997), (48, 40)])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "RGBA"), ("JPEG", "L")])
def test_training_sees_the_pixels_that_the_service_sees(
    size: tuple[int, int], orientation: int, kind: str, mode: str
) -> None:

    picture = photo(1, 0, size).convert(mode)
    if mode == "RGBA":
        picture.putalpha(photo(2, 1, size).convert("L"))
    stream, exif = io.BytesIO(), picture.getexif()
    exif[0x0112] = orientation
    picture.save(stream, kind, exif=exif)
    served = to_pixels(stream.getvalue(), ServedGeometry(96, 96), PrepareLimits())
    trained = square(decode(stream.getvalue(), 96), Geometry(96, 96))
    assert np.abs(served.astype(int) - trained.astype(int)).mean() <= 1


def lut_profile() -> bytes:
    """A CMYK profile of two grid points a side, whose colours are those of the ink K alone, too light."""
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lab = b"".join(bytes([200 - 150 * (i & 1), 128, 128]) for i in range(16))
    table += bytes(range(256)) * 4 + lab + bytes(range(256)) * 3
    header = struct.pack(">I4sI", 144 + len(table), b"lcms", 0x02400000) + b"prtrCMYKLab " + bytes(12) + b"acsp"
    illuminant = struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    header = header.ljust(68, b"\0") + illuminant
    return header.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


@cache
def unusual() -> dict[str, bytes]:
    """Photos of 96x80 pixels that the service reads by rules of its own."""
    image, xmp = photo(1, 0, (96, 80)), b'<x:xmpmeta tiff:Orientation="6"/>'
    sideways = b"Exif\0\0" + exif((0x0112, 3, 1, b"\6\0\0\0"))
    small, alpha = encoded(photo(1, 1, (40, 30)), "WEBP", lossless=True)[12:], image.convert("RGBA")
    alpha.putalpha(photo(2, 1, (96, 80)).convert("L"))
    u24 = [value.to_bytes(3, "little") for value in (10, 5, 39, 29, 100)]
    deep = b"".join(b"\0" + bytes([1, 2, 3, 4, 5, 6, 200, 1, 3, 1, 5, 1]) * 48 for _ in range(80))
    rows, palette = zlib.compress((b"\0" + bytes(range(3)) * 32) * 80), chunk(b"PLTE", bytes(range(90, 99)))
    sound, still = encoded(image, "PNG"), encoded(image.quantize(64), "GIF")
    frame = 13 + 3 * 64
    return {
        "AVIF with a stale XMP": encoded(image, "AVIF", xmp=xmp),
        "AVIF turned, with a stale XMP": encoded(image, "AVIF", xmp=xmp, exif=sideways),
        "AVIF, moving, with alpha": encoded(alpha, "AVIF", save_all=True, append_images=[alpha]),
        "WebP with a small first frame": riff(
            vp8x(96, 80, 2), (b"ANIM", bytes(6)), (b"ANMF", b"".join(u24) + b"\0" + small)
        ),
        "WebP of a wrong length": riff((b"VP8L", encoded(image, "WEBP", lossless=True)[20:]), size=99),
        "GIF with a small first frame": still[:6]
        + b"\x78\0\x64\0"
        + still[10 : frame + 1]
        + b"\x0a\0\x05\0"
        + still[frame + 5 :],
        "GIF with a short control": still[:frame] + b"!\xf9\x03\1\0\0\0" + still[frame:],
        "PNG of 16 bits, one colour transparent": png(
            ihdr(96, 80, 16, 2), chunk(b"tRNS", bytes([1, 2, 3, 4, 5, 6])), chunk(b"IDAT", zlib.compress(deep)), IEND
        ),
        "PNG of 16-bit grey, one transparent": even_png(96, 80, 16, 0, chunk(b"tRNS", b"\5\6")),
        "PNG with too long a transparency": png(
            ihdr(96, 80, 8, 3), palette, chunk(b"tRNS", bytes(4)), chunk(b"IDAT", rows), IEND
        ),
        "PNG with transparency before its palette": png(
            ihdr(96, 80, 8, 3), chunk(b"tRNS", b"\0"), palette, chunk(b"IDAT", rows), IEND
        ),
        "PNG with a fault in its text": sound[:33] + chunk(b"tEXt", b"a\0b")[:-1] + b"x" + sound[33:],
        "JPEG with a short Adobe segment": inserted(encoded(image, "JPEG"), segment(0xEE, b"Adobe")),
        "JPEG of CMYK with a profile": encoded(image.convert("CMYK"), "JPEG", icc_profile=lut_profile()),
        "JPEG of CMYK without one": encoded(image.convert("CMYK"), "JPEG"),
    }


@pytest.mark.parametrize(("size", "short"), [(80, 80), (40, 40), (32, 60), (224, 256)])
@pytest.mark.parametrize("kind", unusual())
def test_training_sees_the_pixels_that_the_service_sees_of_unusual_files(kind: str, size: int, short: int) -> None:
    body = unusual()[kind]
    served = to_pixels(body, ServedGeometry(size, short), PrepareLimits())
    trained = square(decode(body, short), Geometry(size, short))
    assert np.abs(served.astype(int) - trained.astype(int)).mean() <= 1
