"""The vectorised resize is Pillow's bilinear filter, whatever the image, the part of it and the mode."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from consumer.imaging.geometry import Box
from consumer.imaging.resize import resized
from tests.unit.photos import difference, photo

PHOTO = photo(640, 480, seed=3)


def pillows(image: Image.Image, box: Box, size: int) -> np.ndarray:
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box), np.int16)


@st.composite
def parts(draw: st.DrawFn) -> tuple[Image.Image, Box]:
    width, height = draw(st.integers(1, 640)), draw(st.integers(1, 480))
    sides = st.floats(0, 1, allow_nan=False)
    left, right = sorted((draw(sides) * width, draw(sides) * width))
    top, bottom = sorted((draw(sides) * height, draw(sides) * height))
    box = Box(left, top, max(right, min(left + 1.0, width)), max(bottom, min(top + 1.0, height)))
    box = Box(min(left, box.right - 0.5), min(top, box.bottom - 0.5), box.right, box.bottom)
    return PHOTO.crop((0, 0, width, height)), box


@given(part=parts(), size=st.integers(1, 224), mode=st.sampled_from(["RGB", "L", "RGBa"]))
def test_any_part_of_an_image_is_resized_as_pillow_does(part: tuple[Image.Image, Box], size: int, mode: str) -> None:
    image, box = part
    image = image.convert("RGBA").convert(mode) if mode == "RGBa" else image.convert(mode)
    small = resized(image, box, size)
    assert (small.mode, small.size) == (mode, (size, size))
    assert np.abs(np.asarray(small, np.int16) - pillows(image, box, size)).max() <= 2


def test_a_photo_is_resized_as_pillow_does_but_for_its_roundings() -> None:
    box = Box(80.0, 0.0, 560.0, 480.0)
    assert difference(resized(PHOTO, box, 224), pillows(PHOTO, box, 224)) <= 0.25


def test_premultiplied_colours_are_not_multiplied_again() -> None:
    clear = PHOTO.copy()
    clear.putalpha(Image.linear_gradient("L").resize(PHOTO.size))
    image, box = clear.convert("RGBa"), Box(0.0, 0.0, 640.0, 480.0)
    assert difference(resized(image, box, 224), pillows(image, box, 224)) <= 0.25


@pytest.mark.parametrize(("width", "height"), [(4000, 3000), (16, 9000), (9000, 16), (1, 1)])
def test_images_of_any_size_and_shape_are_resized_as_pillow_does(width: int, height: int) -> None:
    image, side = PHOTO.resize((width, height)), float(min(width, height))
    box = Box(width - side, height - side, float(width), float(height))
    assert np.abs(np.asarray(resized(image, box, 224), np.int16) - pillows(image, box, 224)).max() <= 1


@pytest.mark.parametrize("mode", ["I;16", "F", "YCbCr"])
def test_modes_whose_layout_the_resizer_does_not_know_go_by_pillow(mode: str) -> None:
    image = Image.new(mode, (64, 48), 77)
    assert (
        resized(image, Box(3.0, 2.0, 40.5, 39.5), 8).tobytes() == image.resize((8, 8), 2, (3, 2, 40.5, 39.5)).tobytes()
    )


@pytest.mark.parametrize(("attribute", "value"), [("_size", (320, 240)), ("_mode", "RGBa")])
def test_an_image_whose_attributes_are_not_those_of_its_memory_goes_by_pillow(attribute: str, value: object) -> None:
    image, box = PHOTO.copy(), Box(0.0, 0.0, 480.0, 480.0)
    expected = image.resize((224, 224), Image.Resampling.BILINEAR, box).tobytes()
    setattr(image, attribute, value)
    small = resized(image, box, 224)
    assert (small.im.mode, small.tobytes()) == ("RGB", expected)


def test_the_image_that_was_read_stays_as_it_was() -> None:
    image = PHOTO.copy()
    resized(image, Box(10.0, 10.0, 300.5, 300.5), 224)
    assert image.tobytes() == PHOTO.tobytes()


def test_threads_do_not_disturb_each_other() -> None:
    boxes = [Box(float(x), 0.0, x + 400.0, 480.0) for x in range(0, 240, 4)]
    alone = [resized(PHOTO, box, 224).tobytes() for box in boxes]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda box: resized(PHOTO, box, 224).tobytes(), boxes * 4))
    assert together == alone * 4
