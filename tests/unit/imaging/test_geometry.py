import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from consumer.contract import Geometry
from consumer.imaging.geometry import SIDEWAYS, crop_box, scaled, whole_pixels

sides = st.integers(1, 30_000)
orientations = st.integers(0, 9)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    size = draw(st.integers(1, 640))
    return Geometry(size, draw(st.integers(size, 2 * size)))


@given(sides, sides, orientations, geometries())
def test_the_box_lies_inside_the_image_and_is_not_empty(
    width: int, height: int, orientation: int, geometry: Geometry
) -> None:
    box = crop_box(width, height, orientation, geometry)
    assert 0 <= box.left < box.right <= width
    assert 0 <= box.top < box.bottom <= height


@given(st.integers(16, 8_000), st.integers(16, 8_000), orientations, geometries())
def test_the_box_keeps_the_aspect_to_one_resized_pixel(
    width: int, height: int, orientation: int, geometry: Geometry
) -> None:
    box = crop_box(width, height, orientation, geometry)
    assert box.width == pytest.approx(box.height, rel=1 / geometry.resize_short_side + 1e-9)


@given(sides, sides, geometries())
def test_the_box_is_centred_to_one_resized_pixel(width: int, height: int, geometry: Geometry) -> None:
    box = crop_box(width, height, 1, geometry)
    assert abs((box.left + box.right) - width) <= box.width / geometry.input_size + 1e-6
    assert abs((box.top + box.bottom) - height) <= box.height / geometry.input_size + 1e-6


@given(sides, sides, st.sampled_from([-1, 0, 9, 65_535]), geometries())
def test_an_orientation_that_is_none_counts_as_upright(
    width: int, height: int, orientation: int, geometry: Geometry
) -> None:
    assert crop_box(width, height, orientation, geometry) == crop_box(width, height, 1, geometry)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 8))
def test_the_box_covers_the_same_picture_in_every_orientation(width: int, height: int, orientation: int) -> None:
    # Without scaling a box is whole pixels, so the pictures can be compared exactly.
    short = min(width, height)
    geometry = Geometry(max(short * 2 // 3, 1), short)
    seen = Image.fromarray(np.arange(width * height, dtype=np.int32).reshape(height, width))
    stored = stored_as(seen, orientation)
    want = seen.crop(_whole(crop_box(width, height, 1, geometry)))
    got = stored.crop(_whole(crop_box(stored.width, stored.height, orientation, geometry)))
    assert np.array_equal(np.asarray(upright(got, orientation)), np.asarray(want))


@given(st.integers(16, 4_000), st.integers(16, 4_000), geometries(), st.sampled_from([1, 2, 4, 8]))
def test_a_scaled_box_stays_inside_the_image_whose_sides_were_rounded_up(
    width: int, height: int, geometry: Geometry, scale: int
) -> None:
    small = -(-width // scale), -(-height // scale)
    box = scaled(crop_box(width, height, 1, geometry), 1 / scale, *small)
    assert 0 <= box.left < box.right <= small[0]
    assert 0 <= box.top < box.bottom <= small[1]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_the_whole_pixels_around_a_box_are_all_that_its_resize_reads(width: int, height: int, seed: int) -> None:
    geometry = Geometry(28, 32)
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8))
    box = crop_box(width, height, 1, geometry)
    left, top, right, bottom = whole_pixels(box, 28, width, height)
    moved = (box.left - left, box.top - top, box.right - left, box.bottom - top)
    whole = image.resize((28, 28), Image.Resampling.BILINEAR, box)
    cut = image.crop((left, top, right, bottom)).resize((28, 28), Image.Resampling.BILINEAR, moved)
    # Pillow takes boxes as 32-bit floats: a weight may differ in its last bit.
    assert np.abs(np.asarray(whole, np.int16) - np.asarray(cut, np.int16)).max() <= 1


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def stored_as(image: Image.Image, orientation: int) -> Image.Image:
    """What a camera writes so that `upright` gives the image back."""
    back = {6: 8, 8: 6}.get(orientation, orientation)
    stored = upright(image, back)
    assert (stored.size == image.size) == (orientation not in SIDEWAYS or image.width == image.height)
    return stored


def _whole(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(value) for value in box)
    return left, top, right, bottom
