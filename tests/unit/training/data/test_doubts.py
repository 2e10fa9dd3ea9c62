"""What is said before training on rated photos that are few, alike or one-sided."""

import pytest

from training.data.doubts import doubts, rating_doubts
from training.data.manifest import Manifest
from training.data.photos import LEVELS, Photo
from training.errors import DataError


def rated(*ratings: float) -> Manifest:
    """Of every ten photos, two are val and two test."""
    splits = ("train",) * 6 + ("val",) * 2 + ("test",) * 2
    photos = [Photo(str(n), f"{n}.jpg", "list", rating=r, split=splits[n % 10]) for n, r in enumerate(ratings)]
    return Manifest("quality", tuple(map(str, LEVELS)), tuple(photos))


def test_many_ratings_of_every_level_raise_no_doubt() -> None:
    assert list(rating_doubts(rated(*(1.0 + n % 5 for n in range(200))))) == []


@pytest.mark.parametrize(
    ("ratings", "said"),
    [
        ([1.0, 5.0] * 5, ("only 6 rated photos to train on", "only 2 photos to choose", "only 2 photos to test on")),
        (
            [4.0 + n % 10 / 10 for n in range(200)],
            ("one-sided: 200 of 200 photos with another rating than 3 are rated better", "rated about 1, 2, 3"),
        ),
        (
            [3.0 + n % 10 / 100 for n in range(200)],
            ("are rated better", "one-sided: 200 of 200 photos are rated about 3", "rated about 1, 2, 4, 5"),
        ),
        ([1.0 + n % 4 for n in range(200)], ("fewer than 5 photos are rated about 5",)),
    ],
)
def test_few_or_one_sided_ratings_are_named(ratings: list[float], said: tuple[str, ...]) -> None:
    lines = list(rating_doubts(rated(*ratings)))
    assert len(lines) == len(said), lines
    for line, part in zip(lines, said, strict=True):
        assert part in line


def test_equal_ratings_teach_nothing_and_are_refused() -> None:
    with pytest.raises(DataError, match="all 40 photos are rated 4: a model needs better and worse ones"):
        list(rating_doubts(rated(*[4.0] * 40)))


def test_brand_photos_that_are_nearly_all_of_one_class_are_one_sided() -> None:
    splits = ("train",) * 6 + ("val",) * 2 + ("test",) * 2
    for many, one_sided in ((200, True), (50, False)):
        names = ["no_logo"] * many + ["acme"] * 20
        photos = tuple(Photo(str(n), f"{n}.jpg", "p", label=name, split=splits[n % 10]) for n, name in enumerate(names))
        lines = list(doubts(Manifest("brand", ("acme", "no_logo"), photos), set(names), ()))
        assert any(line.startswith(f"one-sided: {many} of") for line in lines) is one_sided
