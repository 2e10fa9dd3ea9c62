"""How an image comes to the size that the models see: one resize of the crop alone, or training's way to the bit."""

from dataclasses import dataclass
from typing import Final, Protocol, Self

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
#: A sliver resized as a whole is a bomb: 16x30000 would become 232x435000. Beyond this the crop alone is resized.
_MAX_WHOLE_PIXELS: Final = 4_000_000


class DecodeView(Protocol):
    """From an image of any size to the upright square."""

    def cut(self, image: Image.Image) -> tuple[Image.Image, Self]:
        """Only what the resize will read of the image, and the view of that; the image itself may be gone."""

    def resize(self, image: Image.Image) -> Image.Image:
        """The upright square, in the image's own mode."""


@dataclass(frozen=True, slots=True)
class CropView:
    """Resizes the crop and nothing else, then turns the small result: as little work as there can be."""

    box: Box
    size: int
    orientation: int

    def cut(self, image: Image.Image) -> tuple[Image.Image, Self]:
        """See `DecodeView`. What follows converts pixel by pixel, at up to 8 bytes each, so the source goes first."""
        left, top, right, bottom = whole_pixels(self.box, self.size, *image.size)
        box = Box(self.box.left - left, self.box.top - top, self.box.right - left, self.box.bottom - top)
        part = image.crop((left, top, right, bottom))
        image.close()
        return part, type(self)(box, self.size, self.orientation)

    def resize(self, image: Image.Image) -> Image.Image:
        """See `DecodeView`."""
        small = resized(image, self.box, self.size)
        turn = TURNS.get(self.orientation)
        return small if turn is None else small.transpose(turn)


@dataclass(frozen=True, slots=True)
class WholeView:
    """Turns, resizes the whole, cuts the centre, in this order: torchvision's, whose roundings another order misses."""

    geometry: Geometry
    orientation: int

    def cut(self, image: Image.Image) -> tuple[Image.Image, Self]:
        """See `DecodeView`; all of it is read."""
        return image, self

    def resize(self, image: Image.Image) -> Image.Image:
        """See `DecodeView`."""
        turn = TURNS.get(self.orientation)
        upright = image if turn is None else image.transpose(turn)
        width, height = resized_sides(*upright.size, self.geometry)
        size = self.geometry.input_size
        left, top = round((width - size) / 2.0), round((height - size) / 2.0)
        small = upright.resize((width, height), Image.Resampling.BILINEAR)
        return small.crop((left, top, left + size, top + size))


def view_of(
    width: int, height: int, orientation: int, geometry: Geometry, *, scale: int, decoded: tuple[int, int], exact: bool
) -> DecodeView:
    """The view of a photo of `width` x `height` that the decoder gave at 1/`scale`, in `decoded` sides."""
    if exact:
        across, down = resized_sides(width, height, geometry)
        if across * down <= _MAX_WHOLE_PIXELS:
            return WholeView(geometry, orientation)
    box = crop_box(width, height, orientation, geometry)
    # draft rounds the sides up: its factor is the scale, not the ratio of the sides.
    return CropView(scaled(box, 1 / scale, *decoded), geometry.input_size, orientation)
