"""Resizes a part of an image to a square: Pillow's bilinear filter, computed with SIMD instructions.

The resizer reads and writes the images where they lie, by Pillow's layout of memory: copies would cost more than the
resize, most of it in page faults. `pyproject.toml` bounds Pillow's version to the layouts that it knows. Its rounding
differs from Pillow's by one level in some pixels, so exact results need Pillow.
"""

from typing import Final

from cykooz_resizer import CropBox, FilterType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image

from consumer.imaging.geometry import Box

#: Of those that decoding gives: the modes whose layout the resizer knows.
_IN_PLACE: Final = frozenset({"RGB", "RGBa", "L"})
_BILINEAR: Final = ResizeAlg.convolution(FilterType.bilinear)


def resized(image: Image.Image, box: Box, size: int) -> Image.Image:
    """`box` of a loaded image as `size` x `size`, in its own mode: bilinear, with antialiasing where it shrinks."""
    # The resizer believes the attributes of the image; the memory is that of its core.
    if image.mode not in _IN_PLACE or (image.im.mode, image.im.size) != (image.mode, image.size):
        return image.resize((size, size), Image.Resampling.BILINEAR, box)
    small = Image.new(image.mode, (size, size))
    seen = CropBox(box.left, box.top, box.width, box.height)
    # A new one, which costs 0.008 ms: a resizer keeps its buffers, and a large image makes them large.
    Resizer().resize_pil(image, small, ResizeOptions(resize_alg=_BILINEAR, crop_box=seen))
    return small
