"""The part of a photo that the models see: short side resized, centre cropped, EXIF orientation applied. Pure.

The rounding is torchvision's (`Resize(short_side)` then `CenterCrop(size)`), because that is what the models were
trained with: a crop that is off by one pixel changes every pixel value by ten levels on average.
"""

import math
from typing import Final, NamedTuple

from consumer.contract import Geometry

#: The EXIF orientations whose stored width is the photo's height.
SIDEWAYS: Final = frozenset({5, 6, 7, 8})


class Box(NamedTuple):
    """A rectangle in pixels, fractions allowed, in Pillow's order; `right` and `bottom` are exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Pixels from left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Pixels from top to bottom."""
        return self.bottom - self.top


def crop_box(width: int, height: int, orientation: int, geometry: Geometry) -> Box:
    """The region of the *stored* image that becomes the pixels, without cutting or resizing anything else.

    `width` and `height` are those of the file, `orientation` its EXIF orientation; values outside 1..8 count as 1.
    The crop is centred in the photo as it is seen: an odd margin is rounded there, so the box is mapped back through
    the orientation and not computed on the stored sides.
    """
    seen = (height, width) if orientation in SIDEWAYS else (width, height)
    short = min(seen)
    left, right = _centre(seen[0], short, geometry)
    top, bottom = _centre(seen[1], short, geometry)
    return _stored(Box(left, top, right, bottom), width, height, orientation)


def scaled(box: Box, factor: float, width: int, height: int) -> Box:
    """The same region in the image of `width` x `height`, scaled by the factor."""
    left, top, right, bottom = (side * factor for side in box)
    return Box(left, top, min(right, float(width)), min(bottom, float(height)))


def whole_pixels(box: Box, size: int, width: int, height: int) -> tuple[int, int, int, int]:
    """The whole pixels that a bilinear resize of `box` to `size`² reads: the box and the filter's reach around it."""
    x_reach = max(box.width / size, 1.0) + 1.0
    y_reach = max(box.height / size, 1.0) + 1.0
    return (
        max(math.floor(box.left - x_reach), 0),
        max(math.floor(box.top - y_reach), 0),
        min(math.ceil(box.right + x_reach), width),
        min(math.ceil(box.bottom + y_reach), height),
    )


def resized_sides(width: int, height: int, geometry: Geometry) -> tuple[int, int]:
    """The sides of the whole photo once its short side is resized."""
    short = min(width, height)
    return _resized(width, short, geometry), _resized(height, short, geometry)


def _resized(side: int, short: int, geometry: Geometry) -> int:
    return geometry.resize_short_side if side == short else int(geometry.resize_short_side * side / short)


def _centre(side: int, short: int, geometry: Geometry) -> tuple[float, float]:
    """Where the crop starts and ends on one side, in pixels of the photo before the resize."""
    resized = _resized(side, short, geometry)
    start = round((resized - geometry.input_size) / 2.0)
    factor = side / resized
    return start * factor, min((start + geometry.input_size) * factor, float(side))


def _stored(box: Box, width: int, height: int, orientation: int) -> Box:
    """A box of the photo as it is seen, in the coordinates of the stored image."""
    if orientation in SIDEWAYS:
        box = Box(box.top, box.left, box.bottom, box.right)
    if orientation in {2, 3, 7, 8}:
        box = Box(width - box.right, box.top, width - box.left, box.bottom)
    if orientation in {3, 4, 6, 7}:
        box = Box(box.left, height - box.bottom, box.right, height - box.top)
    return box
