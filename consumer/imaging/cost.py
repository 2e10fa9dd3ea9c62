"""The most memory and CPU time that a decode can take, from the header alone. Pure.

The weights are measured (`benchmarks/decode_costs.py`) on the worst content that was found for each format, not on the
usual one, because the sender chooses the content.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from consumer.imaging.jpeg import Jpeg

#: Bits of one pixel of a PNG once it is inflated, by Pillow's name of the layout; others have 64 at most.
_PNG_BITS: Final = {
    "1": 1, "P;1": 1, "L;2": 2, "P;2": 2, "L;4": 4, "P;4": 4, "L": 8, "P": 8, "LA": 16, "I;16B": 16,
    "RGB": 24, "RGBA": 32, "LA;16B": 32, "RGB;16B": 48,
}  # fmt: skip
#: Modes that Pillow stores in one byte a pixel; 16-bit grey takes two, all others four.
_ONE_BYTE: Final = frozenset({"1", "L", "P"})
#: Modes that are resized as they are and made RGB afterwards; the others are cropped and converted first.
RESIZABLE: Final = frozenset({"RGB", "L", "YCbCr"})


@dataclass(frozen=True, slots=True)
class Cost:
    """The most that a decode takes."""

    memory_bytes: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Stored:
    """How a photo is stored: what determines the cost of its decode."""

    width: int
    height: int
    #: Pillow's names of the colour mode, and of its layout in the file.
    mode: str
    layout: str
    #: One colour, or the colours of a palette, are transparent: the image is converted before it is resized.
    transparent: bool
    body_bytes: int
    #: The decoder gives 1/`scale` of each side.
    scale: int
    #: The sides of the squares that are made of it, one for each geometry.
    squares: Sequence[int]


#: What every decode takes: the decoder's tables and the rows of the resize.
_BASE_BYTES: Final = 5 * 512 * 1024
_BASE_S: Final = 0.002
#: What each pixel of a square takes: an image and its bytes; and while transparency is laid over white, one by one.
_SQUARE_BYTES: Final = 8
_ON_WHITE_BYTES: Final = 24
_SQUARE_NS: Final = 50.0
#: The resize to each further square, for each pixel that was decoded.
_RESIZE_NS: Final = 1.2
#: The conversion of CMYK by a profile, for each pixel that was decoded: its crop and the RGB of that.
_INK_BYTES: Final = 8
_INK_NS: Final = 50.0


def jpeg_cost(jpeg: Jpeg, stored: Stored) -> Cost:
    """The cost of a JPEG; its coefficients are kept if it is buffered."""
    width, height = -(-jpeg.width // stored.scale), -(-jpeg.height // stored.scale)
    kept = jpeg.blocks * 128 if jpeg.buffered else 0
    memory = kept + width * height * _pixel_bytes(stored.mode) + stored.body_bytes
    per_byte, per_block = (22.0, 170.0) if jpeg.buffered else (7.0, 35.0)
    time_ns = stored.body_bytes * per_byte + jpeg.blocks * per_block + width * height * 8.0 + jpeg.visits * 0.7
    if stored.mode == "CMYK":
        memory += width * height * _INK_BYTES
        time_ns += width * height * _INK_NS
    return _cost(memory, time_ns, width * height, stored)


def png_cost(_: None, stored: Stored) -> Cost:
    """The cost of a PNG; it depends on the inflated bytes, not on those of the file."""
    pixels = stored.width * stored.height
    inflated = pixels * _PNG_BITS.get(stored.layout, 64) / 8
    memory, time_ns = _image(pixels, stored)
    return _cost(memory + stored.body_bytes, inflated * 7.0 + time_ns, pixels, stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCost:
    """The cost of a format whose decoder keeps whole frames beside the image."""

    bytes_per_pixel: float
    ns_per_pixel: float
    ns_per_byte: float

    def __call__(self, _: None, stored: Stored) -> Cost:
        """The cost of one photo."""
        pixels = stored.width * stored.height
        memory, time_ns = _image(pixels, stored)
        memory += int(pixels * self.bytes_per_pixel) + stored.body_bytes
        time_ns += pixels * self.ns_per_pixel + stored.body_bytes * self.ns_per_byte
        return _cost(memory, time_ns, pixels, stored)


_LOSSY_WEBP: Final = FrameCost(bytes_per_pixel=12.0, ns_per_pixel=18.0, ns_per_byte=60.0)
_LOSSLESS_WEBP: Final = FrameCost(bytes_per_pixel=12.0, ns_per_pixel=18.0, ns_per_byte=20.0)


def webp_cost(lossless: bool, stored: Stored) -> Cost:  # noqa: FBT001 - what the structure check found
    """The cost of a WebP."""
    return (_LOSSLESS_WEBP if lossless else _LOSSY_WEBP)(None, stored)


def _cost(memory_bytes: int, time_ns: float, decoded_pixels: int, stored: Stored) -> Cost:
    """The cost of a decode, with that of its first resize, and of everything around it."""
    made = sum(side * side for side in stored.squares)
    memory_bytes += _BASE_BYTES + made * _SQUARE_BYTES + max(stored.squares) ** 2 * _ON_WHITE_BYTES
    time_ns += made * _SQUARE_NS + (len(stored.squares) - 1) * decoded_pixels * _RESIZE_NS
    return Cost(memory_bytes, _BASE_S + time_ns * 1e-9)


def _image(pixels: int, stored: Stored) -> tuple[int, float]:
    """Bytes and ns of the decoded image and of its conversions up to the resize."""
    mode, converted = stored.mode, stored.transparent
    kept = pixels * _pixel_bytes(mode)
    if converted and mode.startswith("I;16"):
        return kept + pixels * 10, pixels * 36.0
    if mode == "1" and not converted:
        return kept + pixels * 2, pixels * 3.0
    if mode in RESIZABLE and not converted:
        return kept, pixels * 2.0
    return kept + pixels * 7, pixels * 15.0


def _pixel_bytes(mode: str) -> int:
    if mode in _ONE_BYTE:
        return 1
    return 2 if mode.startswith("I;16") else 4
