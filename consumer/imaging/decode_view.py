"""From a decoded image to the models' input: one resize of the crop alone, or exactly the steps of training."""

from dataclasses import dataclass, replace
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
#: A narrow image resized as a whole is a bomb: 16x30000 would become 232x435000. Beyond this the crop alone is resized.
_MAX_WHOLE_PIXELS: Final = 4_000_000


class DecodeView(Protocol):
    """What is made of a decoded image."""

    def cut(self, image: Image.Image) -> tuple[Image.Image, Self]:
        """Only what `resize` will read of an image, and the view of that; the image itself may be closed."""

    def resize(self, image: Image.Image) -> Image.Image:
        """The upright result, in the image's own mode."""


@dataclass(frozen=True, slots=True)
class CropView:
    """Resizes the crop alone, then rotates the small result: the least work."""

    box: Box
    size: int
    orientation: int

    def cut(self, image: Image.Image) -> tuple[Image.Image, Self]:
        """The pixels that `resize` reads; closes the image, since converting them takes up to 8 bytes each."""
        left, top, right, bottom = whole_pixels(self.box, self.size, *image.size)
        box = Box(self.box.left - left, self.box.top - top, self.box.right - left, self.box.bottom - top)
        part = image.crop((left, top, right, bottom))
        image.close()
        return part, replace(self, box=box)

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

    def cut(self, image: Image.Image) -> tuple[Image.Image, Self]:
        """The whole image, since `resize` reads all of it."""
        return image, self

    def resize(self, image: Image.Image) -> Image.Image:
        """The upright square."""
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
    """The view of a photo of `width` x `height` that was decoded at 1/`scale`, to `decoded` pixels (width, height)."""
    if exact:
        across, down = resized_sides(width, height, geometry)
        if across * down <= _MAX_WHOLE_PIXELS:
            return WholeView(geometry, orientation)
    box = crop_box(width, height, orientation, geometry)
    # draft rounds the sides up: its factor is the scale, not the ratio of the sides.
    return CropView(scaled(box, 1 / scale, *decoded), geometry.input_size, orientation)
