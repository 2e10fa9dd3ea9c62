"""Training and service see the same pixels: torchvision's evaluation transform beside `prepare`, for the same files."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from PIL import Image, ImageOps

from consumer.contract import Geometry
from consumer.errors import PhotoRejected
from consumer.events import Pixels
from consumer.imaging.limits import PrepareLimits
from tests.unit.photos import difference, encoded, photo, to_pixels

GEOMETRY: Final = Geometry(input_size=224, resize_short_side=232)
LIMITS: Final = PrepareLimits()
EXACT: Final = replace(LIMITS, exact=True)
UPLOADS: Final = Path(__file__).parents[4] / "shared" / "data" / "uploads"
#: By format: the options of a file that keeps the pixels as they are, or nearly.
FORMATS: Final = {
    "JPEG": {"quality": 92},
    "PNG": {},
    "WEBP": {"lossless": True, "quality": 0, "method": 0},
    "AVIF": {"speed": 10, "quality": 90},
}
SIZES: Final = ((1203, 801), (801, 1203), (500, 375), (233, 400))
#: From a photo as it is seen to what a camera stores.
STORED: Final = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def training_pixels(body: bytes, geometry: Geometry = GEOMETRY) -> Pixels:
    """What a model is trained and evaluated on: the whole photo, upright, `Resize` and `CenterCrop`."""
    transforms = pytest.importorskip("torchvision.transforms")
    rule = transforms.Compose(
        [transforms.Resize(geometry.resize_short_side), transforms.CenterCrop(geometry.input_size)]
    )
    with Image.open(io.BytesIO(body)) as image:
        return np.asarray(rule(ImageOps.exif_transpose(image).convert("RGB")))


def stored(image: Image.Image, name: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = STORED[orientation]
    return encoded(image if turn is None else image.transpose(turn), name, exif=exif.tobytes(), **FORMATS[name])


def errors(bodies: list[bytes], limits: PrepareLimits) -> list[float]:
    return [difference(to_pixels(body, GEOMETRY, limits), training_pixels(body)) for body in bodies]


@pytest.mark.parametrize("name", FORMATS)
def test_exact_pixels_are_those_of_training_in_every_orientation(name: str) -> None:
    image = {size: photo(*size, seed=7) for size in SIZES}
    bodies = [stored(image[SIZES[turn % len(SIZES)]], name, turn) for turn in STORED]
    assert max(errors(bodies, EXACT)) <= 0.02


@pytest.mark.parametrize("name", FORMATS)
def test_usual_pixels_stay_near_those_of_training_in_every_orientation(name: str) -> None:
    image = {size: photo(*size, seed=8) for size in ((1601, 1199), (1207, 1833))}
    bodies = [stored(image[(1601, 1199) if turn % 2 else (1207, 1833)], name, turn) for turn in STORED]
    found = errors(bodies, LIMITS)
    assert np.mean(found) <= 0.4
    assert max(found) <= 1.0


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (301, 299), (2000, 333), (232, 232), (231, 100), (17, 16)])
def test_exact_pixels_are_those_of_training_at_every_size(size: tuple[int, int]) -> None:
    assert max(errors([encoded(photo(*size), "JPEG", quality=90), encoded(photo(*size), "PNG")], EXACT)) <= 0.02


def test_exact_pixels_are_those_of_training_in_every_mode() -> None:
    image = photo(500, 375)
    bodies = [
        encoded(image.convert("L"), "PNG"),
        encoded(image.convert("L"), "JPEG"),
        encoded(image.convert("CMYK"), "JPEG", quality=95),
        encoded(image, "JPEG", progressive=True, subsampling=0),
        encoded(image.quantize(200).convert("RGB"), "PNG"),
    ]
    assert max(errors(bodies, EXACT)) <= 0.02


def test_collected_photos_stay_near_those_of_training() -> None:
    paths = sorted(UPLOADS.rglob("*.jpg")) + sorted(UPLOADS.rglob("*.png"))
    if not paths:
        pytest.skip("no collected photos beside the checkout")
    bodies = [body for path in paths[::5] if is_plain(body := path.read_bytes())]
    assert max(errors(bodies, EXACT)) <= 0.02
    found = errors(bodies, LIMITS)
    assert np.mean(found) <= 0.4
    assert max(found) <= 1.0


def is_plain(body: bytes) -> bool:
    """A sound RGB photo with an orientation of the standard: of others training and service need not agree."""
    try:
        with Image.open(io.BytesIO(body)) as image:
            image.load()
            return image.mode == "RGB" and min(image.size) >= 16 and image.getexif().get(0x0112, 1) in STORED
    except OSError:
        return False


@pytest.mark.parametrize("orientation", STORED)
def test_the_decoder_of_the_training_package_gives_the_same_pixels(orientation: int) -> None:
    training = pytest.importorskip("training.data.decode")
    body = stored(photo(1203, 901), "JPEG", orientation)
    shape = training.Geometry(GEOMETRY.input_size, GEOMETRY.resize_short_side)
    seen = training.square(training.decode(body, GEOMETRY.resize_short_side), shape)
    assert difference(to_pixels(body, GEOMETRY, LIMITS), seen) <= 0.3


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_training_reads_what_the_service_reads(name: str) -> None:
    training = pytest.importorskip("training.data.decode")
    body = encoded(photo(64, 48), name)
    assert to_pixels(body, GEOMETRY, LIMITS).shape == (224, 224, 3)
    assert training.decode(body, 32).width == 64


@pytest.mark.parametrize("name", ["BMP", "TIFF", "EPS", "PPM", "ICO", "JPEG2000"])
def test_training_refuses_what_the_service_refuses(name: str) -> None:
    training, errors = pytest.importorskip("training.data.decode"), pytest.importorskip("training.errors")
    body = encoded(photo(64, 48), name)
    with pytest.raises(PhotoRejected) as refused:
        to_pixels(body, GEOMETRY, LIMITS)
    assert refused.value.reason == "unsupported_format"
    with pytest.raises(errors.Unreadable, match="the service reads JPEG, PNG, WEBP, GIF, AVIF"):
        training.decode(body, 32)
