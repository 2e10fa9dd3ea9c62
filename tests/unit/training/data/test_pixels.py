"""Decoded photos are kept on disk once, whole or not at all."""

from pathlib import Path

import pytest
import torch

from tests.photo_folders import photo
from training.data.decode import Geometry
from training.data.photos import Photo
from training.data.pixels import cached_stack, stack
from training.errors import Unreadable

SQUARE = Geometry(24, 24)


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    for index in range(5):
        photo(index, index % 3).save(tmp_path / f"{index}.png")
    return [Photo(str(index), str(tmp_path / f"{index}.png"), "here", sha256=f"{index}") for index in range(5)]


def test_kept_photos_are_the_decoded_ones_and_are_not_decoded_again(photos: list[Photo], tmp_path: Path) -> None:
    first = cached_stack(photos, SQUARE, 2, tmp_path / "kept")
    assert torch.equal(first, stack(photos, SQUARE, 1))
    for one in photos:
        Path(one.uri).unlink()
    assert torch.equal(cached_stack(photos, SQUARE, 2, tmp_path / "kept"), first)
    first[0] = 0  # the caller's own copy: the file stays as it was
    assert int(cached_stack(photos, SQUARE, 2, tmp_path / "kept")[0].max()) > 0


def test_a_photo_that_can_no_longer_be_read_leaves_nothing_behind(photos: list[Photo], tmp_path: Path) -> None:
    Path(photos[3].uri).unlink()
    with pytest.raises(Unreadable):
        cached_stack(photos, SQUARE, 2, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []
