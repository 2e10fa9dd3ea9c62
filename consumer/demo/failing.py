"""Photos that must fail, so that the demo shows dead letters; generated for each run."""

import io
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from PIL import Image, ImageDraw, ImageFilter

from consumer.errors import Reason

#: 169 million pixels in a few hundred bytes: half a gigabyte when unpacked, and more than the service decodes.
_BOMB_SIDE: Final = 13_000
_HTML: Final = b"""<!doctype html>
<title>Please sign in</title>
<h1>Please sign in</h1>
<p>A login page that answers 200 where a photo was expected.</p>
"""


class Broken(NamedTuple):
    """One of them: its file name, its file (None for the missing one), and the reason its dead letter must have."""

    name: str
    path: Path | None
    reason: Reason


def write_failing(folder: Path) -> list[Broken]:
    """Writes the files into a folder that exists."""
    bodies: dict[str, tuple[bytes | None, Reason]] = {
        "missing-photo.jpg": (None, "http_4xx"),
        "truncated-photo.jpg": (_truncated_jpeg(), "corrupt_image"),
        "decompression-bomb.png": (_bomb(), "too_many_pixels"),
        "login-page.jpg": (_HTML, "unsupported_format"),
    }
    broken = []
    for name, (body, reason) in bodies.items():
        if body is not None:
            (folder / name).write_bytes(body)
        broken.append(Broken(name, None if body is None else folder / name, reason))
    return broken


def _truncated_jpeg() -> bytes:
    """A drawing of a coast, cut off as by an interrupted upload."""
    width, height = 960, 720
    image = Image.linear_gradient("L").resize((width, height))
    picture = Image.merge(
        "RGB",
        (
            image.point([min(255, 60 + shade) for shade in range(256)]),
            image.point([70 + shade // 3 for shade in range(256)]),
            image.point([150 - shade // 3 for shade in range(256)]),
        ),
    )
    draw = ImageDraw.Draw(picture)
    draw.ellipse((560, 230, 720, 390), fill=(255, 226, 160))
    draw.polygon(
        [(0, 420), (180, 260), (330, 380), (470, 290), (640, 430), (960, 330), (960, 720), (0, 720)], (64, 44, 84)
    )
    draw.polygon([(0, 540), (260, 440), (520, 560), (960, 450), (960, 720), (0, 720)], (36, 26, 54))
    body = io.BytesIO()
    picture.filter(ImageFilter.GaussianBlur(1.2)).save(body, "JPEG", quality=90)
    return body.getvalue()[: int(len(body.getvalue()) * 0.62)]


def _bomb() -> bytes:
    """A PNG with a valid header for `_BOMB_SIDE` squared pixels, and the first row of them."""
    header = struct.pack(">IIBBBBB", _BOMB_SIDE, _BOMB_SIDE, 8, 2, 0, 0, 0)
    line = zlib.compress(bytes(1 + 3 * _BOMB_SIDE), 9)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(*chunk) for chunk in ((b"IHDR", header), (b"IDAT", line), (b"IEND", b""))
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
