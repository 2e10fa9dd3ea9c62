"""Each model may see a photo in its own geometry: what it sees is what it would see as the only one, or better."""

import io
from dataclasses import replace
from functools import cache
from typing import Final

import numpy as np
import pytest
from PIL import Image

from consumer.contract import Geometry
from consumer.imaging.decode import NeedsMemory, decode, opened
from consumer.imaging.limits import PrepareLimits
from consumer.imaging.preparer import explain
from tests.unit.imaging.test_parity import FORMATS, stored, training_pixels
from tests.unit.photos import difference, encoded, photo, to_pixels

LIMITS: Final = PrepareLimits()
EXACT: Final = replace(LIMITS, exact=True)
#: Small and large, with a margin and without, a larger crop of a smaller side, and far too fine for the photos.
GEOMETRIES: Final = (
    Geometry(96, 96), Geometry(224, 224), Geometry(160, 184), Geometry(224, 256), Geometry(40, 300), Geometry(1, 700),
)  # fmt: skip


@cache
def of_every_mode() -> dict[str, bytes]:
    """Photos of each way through decoding and conversion that is not a JPEG's reduced decode."""
    image = photo(301, 223)
    clear = image.convert("RGBA")
    clear.putalpha(photo(301, 223, seed=2).convert("L"))
    deep = Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16) << 8) + 77)
    still, moving = encoded(image.quantize(64), "GIF"), io.BytesIO()
    image.save(moving, "WEBP", save_all=True, append_images=[clear], lossless=True)
    return {
        "RGB": encoded(image, "PNG"),
        "L": encoded(image.convert("L"), "PNG"),
        "1": encoded(image.convert("1"), "PNG"),
        "P": encoded(image.quantize(90), "PNG"),
        "RGBA": encoded(clear, "PNG"),
        "LA": encoded(clear.convert("LA"), "PNG"),
        "16-bit grey": encoded(deep, "PNG"),
        "16-bit grey, one transparent": encoded(deep, "PNG", transparency=0x4D4D),
        "RGB, one transparent": encoded(image, "PNG", transparency=image.getpixel((150, 110))),
        "CMYK": encoded(image.convert("CMYK"), "JPEG", quality=95),
        "GIF": still,
        "GIF of a larger canvas": still[:6] + b"\x90\1\x90\1" + still[10:],
        "WebP, moving": moving.getvalue(),
        "AVIF with alpha": encoded(clear, "AVIF", speed=10),
    }


@pytest.mark.parametrize("limits", [LIMITS, EXACT], ids=["usual", "exact"])
@pytest.mark.parametrize("kind", of_every_mode())
def test_each_geometry_gives_the_pixels_that_it_gives_alone(kind: str, limits: PrepareLimits) -> None:
    body = of_every_mode()[kind]
    together = decode(body, GEOMETRIES, limits).views
    assert together.keys() == set(GEOMETRIES)
    for geometry, pixels in together.items():
        assert pixels.shape == (geometry.input_size, geometry.input_size, 3)
        assert (pixels.dtype, pixels.flags.c_contiguous) == (np.uint8, True)
        # A part of an image begins at a whole pixel, from which fractions are counted with another rounding.
        assert np.abs(pixels.astype(int) - to_pixels(body, geometry, limits)).max() <= 1


def test_equal_geometries_share_one_array() -> None:
    body, geometry = encoded(photo(64, 48), "JPEG"), Geometry(32, 32)
    once, twice = decode(body, [geometry], LIMITS), decode(body, [geometry, geometry], LIMITS)
    assert twice.views.keys() == {geometry}
    assert once.header == twice.header == explain(body, [geometry, geometry], LIMITS).header


@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_of_a_jpeg_the_finest_geometry_decides_the_scale(orientation: int) -> None:
    body = stored(photo(2003, 1501), "JPEG", orientation)
    small, large = Geometry(96, 96), Geometry(224, 232)
    together = decode(body, [small, large], LIMITS)
    assert (together.header.scale, decode(body, [small], LIMITS).header.scale) == (2, 4)
    assert np.array_equal(together.views[large], to_pixels(body, large, LIMITS))
    seen, alone, whole = (
        each[small] for each in (together.views, *(decode(body, [small], limits).views for limits in (LIMITS, EXACT)))
    )
    assert difference(seen, whole) <= difference(alone, whole)


@pytest.mark.parametrize("pair", [(0, 1), (2, 3)], ids=["96 and 224", "160 of 184 and 224 of 256"])
def test_of_a_pair_both_stay_within_the_bounds_to_training(pair: tuple[int, int]) -> None:
    geometries = [GEOMETRIES[number] for number in pair]
    seen = {1: photo(1601, 1199, seed=8), 6: photo(1207, 1833, seed=8), 7: photo(1201, 903, seed=8)}
    bodies = [stored(image, "JPEG", turn) for turn, image in seen.items()]
    views = [decode(body, geometries, LIMITS).views for body in bodies]
    for geometry in geometries:
        found = [
            difference(view[geometry], training_pixels(body, geometry))
            for view, body in zip(views, bodies, strict=True)
        ]
        assert np.mean(found) <= 0.4
        assert max(found) <= 1.0


@pytest.mark.parametrize("size", [(16, 16), (16, 900), (3000, 17), (1, 1)])
def test_the_finest_geometry_that_is_allowed_fits_every_photo(size: tuple[int, int]) -> None:
    finest = [Geometry(1024, 1024), Geometry(1, 1024)]
    for limits in (LIMITS, EXACT):
        views = decode(encoded(photo(*size), "PNG"), finest, replace(limits, min_side=1)).views
        assert [views[each].shape[0] for each in finest] == [1024, 1]


def cost_of(body: bytes, *geometries: Geometry) -> tuple[int, float]:
    with opened(body, geometries, LIMITS) as (_, header):
        return header.cost.memory_bytes, header.cost.cpu_s


@pytest.mark.parametrize("name", FORMATS)
def test_a_further_geometry_is_counted_in_memory_and_time(name: str) -> None:
    body = encoded(photo(700, 500), name)
    alone, both = cost_of(body, GEOMETRIES[1]), cost_of(body, *GEOMETRIES[:2])
    assert both[0] - alone[0] >= 96 * 96 * 8
    assert both[1] > alone[1]
    large = cost_of(body, GEOMETRIES[1], Geometry(1024, 1024))
    assert large[0] - alone[0] >= 1024 * 1024 * 30


def test_the_conversion_of_inks_is_counted() -> None:
    inks, colours = (cost_of(encoded(photo(700, 500).convert(mode), "JPEG"), GEOMETRIES[1]) for mode in ("CMYK", "RGB"))
    assert inks[0] - colours[0] >= 700 * 500 * 8
    assert inks[1] - colours[1] >= 700 * 500 * 40e-9


def test_a_decode_that_its_geometries_make_large_says_so_before_it_runs() -> None:
    body = encoded(photo(700, 500), "PNG")
    with pytest.raises(NeedsMemory) as needed:
        decode(body, [Geometry(1024, 1024)], LIMITS, memory_bytes=16 * 1024 * 1024)
    assert decode(body, [Geometry(1024, 1024)], LIMITS, needed.value.memory_bytes).views
