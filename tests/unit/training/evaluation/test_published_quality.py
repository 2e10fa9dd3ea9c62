"""What the published quality model says of photos that it never saw, of damaged copies, and of the photos on white."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.backgrounds import sample_photo
from training.data.decode import Decoded, Geometry, square
from training.data.degrade import exposed
from training.evaluation.damage import ABSOLUTE, RELATIVE, SMALL_PX
from training.evaluation.quality import score_of
from training.runs.teacher import Teacher, opened
from training.serving.files import MANIFEST

PUBLISHED = Path(__file__).parents[4] / "triton_models" / "photo_quality" / "2"
PHOTOS = ("coffee.png", "chelsea.png")


@pytest.fixture(scope="module")
def model() -> Teacher:
    return opened(PUBLISHED)


def scores(model: Teacher, pictures: list[Image.Image]) -> np.ndarray:
    geometry = Geometry(model.px, model.px)
    return score_of(
        model.answers(np.stack([square(Decoded(picture, *picture.size), geometry) for picture in pictures]))
    )


@pytest.mark.parametrize("name", PHOTOS)
def test_each_kind_of_damage_lowers_the_score(name: str, model: Teacher) -> None:
    photo = sample_photo("skimage", name)
    share = SMALL_PX / min(photo.size)
    photo = photo.resize((round(photo.width * share), round(photo.height * share)))
    kinds = RELATIVE | ABSOLUTE
    whole, *copies = scores(model, [photo, *(spoil(photo) for spoil in kinds.values())])
    assert [kind for kind, copy in zip(kinds, copies, strict=True) if copy >= whole] == []


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_overexposure_of_a_photo_that_is_not_bright_lowers_the_score(name: str, model: Teacher) -> None:
    photo = sample_photo("sklearn", name)
    whole, *copies = scores(model, [photo, *(exposed(photo, stops) for stops in (0.77, 1.0, 1.2))])
    assert max(copies) < whole


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_with_white_around_it_is_not_poor(name: str, model: Teacher) -> None:
    photo = sample_photo("skimage", name)
    packed = Image.new("RGB", (photo.width * 2, photo.height * 2), "white")
    packed.paste(photo, (photo.width // 2, photo.height // 2))
    threshold = json.loads((PUBLISHED / MANIFEST).read_text())["calibration"]["good_threshold"]
    assert scores(model, [packed])[0] >= threshold
