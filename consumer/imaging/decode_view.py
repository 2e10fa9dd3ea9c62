"""From a decoded image to the models' input: one resize of the crop alone, or exactly the steps of training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, Self, TypeVar

from PIL import Image

from consumer.contract import Geometry
from consumer.imaging.geometry import Box, crop_box, resized_sides, scaled, whole_pixels
from consumer.imaging.resize import resized

TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: A narrow image resized as a whole is a bomb: 16x30000 would become 232x435000. Beyond this the crop alone is resized.
_MAX_WHOLE_PIXELS: Final = 4_000_000


#: Left, top, right, bottom in whole pixels; the last two are exclusive.
Region = tuple[int, int, int, int]


class DecodeView(Protocol):
    """What is made of a decoded image."""

    def reads(self, width: int, height: int) -> Region:
        """What `resize` reads of an image of these sides."""

    def moved(self, left: int, top: int) -> Self:
        """The same view, of an image that lacks so many columns and rows."""

    def resize(self, image: Image.Image) -> Image.Image:
        """The upright result, in the image's own mode."""


V = TypeVar("V", bound=DecodeView)


@dataclass(frozen=True, slots=True)
class CropView:
    """Resizes the crop alone, then rotates the small result: the least work."""

    box: Box
    size: int
    orientation: int

    def reads(self, width: int, height: int) -> Region:
        """The box, and the filter's reach around it."""
        return whole_pixels(self.box, self.size, width, height)

    def moved(self, left: int, top: int) -> Self:
        """The view with its box moved."""
        box = Box(self.box.left - left, self.box.top - top, self.box.right - left, self.box.bottom - top)
        return replace(self, box=box)

    def resize(self, image: Image.Image) -> Image.Image:
        """The upright square."""
        small = resized(image, self.box, self.size)
        turn = TURNS.get(self.orientation)
        return small if turn is None else small.transpose(turn)


@dataclass(frozen=True, slots=True)
class WholeView:
    """Rotates, resizes the whole, crops the centre: torchvision's order, which its rounding depends on."""

    geometry: Geometry
    orientation: int

    def reads(self, width: int, height: int) -> Region:
        """The whole image."""
        return 0, 0, width, height

    def moved(self, _left: int, _top: int) -> Self:
        """Itself: nothing of the image may be lacking."""
        return self

    def resize(self, image: Image.Image) -> Image.Image:
        """The upright square."""
        turn = TURNS.get(self.orientation)
        upright = image if turn is None else image.transpose(turn)
        width, height = resized_sides(*upright.size, self.geometry)
        size = self.geometry.input_size
        left, top = round((width - size) / 2.0), round((height - size) / 2.0)
        small = upright.resize((width, height), Image.Resampling.BILINEAR)
        return small.crop((left, top, left + size, top + size))


def cut(image: Image.Image, views: Sequence[V]) -> tuple[Image.Image, list[V]]:
    """Only what the views read of an image, and the views of that.

    Where that is a part, the image itself is closed, since converting it takes up to 8 bytes for each pixel.
    """
    lefts, tops, rights, bottoms = zip(*(view.reads(*image.size) for view in views), strict=True)
    region = (min(lefts), min(tops), max(rights), max(bottoms))
    if region == (0, 0, *image.size):
        return image, list(views)
    part = image.crop(region)
    image.close()
    return part, [view.moved(*region[:2]) for view in views]


def view_of(
    width: int, height: int, orientation: int, geometry: Geometry, *, scale: int, decoded: tuple[int, int], exact: bool
) -> DecodeView:
    """The view of a photo of `width` x `height` that was decoded at 1/`scale`, to `decoded` pixels (width, height)."""
    if exact:
        across, down = resized_sides(width, height, geometry)
        if across * down <= _MAX_WHOLE_PIXELS:
            return WholeView(geometry, orientation)
    box = crop_box(width, height, orientation, geometry)
    # draft rounds the sides up: its factor is the scale, not the ratio of the sides.
    return CropView(scaled(box, 1 / scale, *decoded), geometry.input_size, orientation)
