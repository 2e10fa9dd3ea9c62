"""Features are streamed to files that are named by what made them, and a killed extraction goes on."""

import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.photo_folders import photo
from training.data.inspect import inspect_all
from training.data.photos import Photo
from training.errors import DataError
from training.heads import features
from training.heads.features import Backbone, backbone, cache_file, extract, features_of
from training.models.networks import natural_px
from training.recipes.recipe import Model


def listed(folder: Path, count: int, size: tuple[int, int] = (48, 40)) -> list[Photo]:
    folder.mkdir(exist_ok=True)
    for index in range(count):
        photo(index, index % 3, size).save(folder / f"{index}.jpg")
    found = [Photo(f"{index}", str(folder / f"{index}.jpg"), "made") for index in range(count)]
    return inspect_all(found, 2)[0]


@pytest.fixture(scope="module")
def small() -> Backbone:
    return backbone(Model(arch="resnet10-w8"), px=32)


def test_rows_are_in_the_order_of_the_photos(tmp_path: Path, small: Backbone) -> None:
    photos = listed(tmp_path / "photos", 7)
    made = extract(small, photos, tmp_path / "cache", batch=3)
    again = extract(small, photos[::-1], tmp_path / "cache", batch=3)
    assert made.shape == (7, 64)
    assert not made.flags.writeable
    assert np.abs(made - again[::-1]).max() < 1e-5
    assert np.ptp(made, axis=0).max() > 0.01


def test_what_is_made_is_not_made_again(tmp_path: Path, small: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = listed(tmp_path / "photos", 4)
    first = extract(small, photos, tmp_path / "cache")
    monkeypatch.setattr(features, "stack", lambda *_: pytest.fail("decoded again"))
    told: list[int] = []
    assert np.array_equal(extract(small, photos, tmp_path / "cache", on_done=told.append), first)
    assert told == [4]


def test_a_file_is_named_by_network_weights_view_and_photos(tmp_path: Path, small: Backbone) -> None:
    photos = listed(tmp_path / "photos", 3)
    moved = [replace(item, uri="elsewhere.jpg") for item in photos]
    others = {
        "network": cache_file(backbone(Model(arch="resnet10-w16"), px=32), photos, tmp_path),
        "weights": cache_file(backbone(Model(arch="resnet10-w8"), seed=1, px=32), photos, tmp_path),
        "view": cache_file(backbone(Model(arch="resnet10-w8"), px=40), photos, tmp_path),
        "photos": cache_file(small, photos[:2], tmp_path),
        "order": cache_file(small, photos[::-1], tmp_path),
    }
    same = cache_file(backbone(Model(arch="resnet10-w8"), px=32), moved, tmp_path)
    assert same == cache_file(small, photos, tmp_path)
    assert len({same, *others.values()}) == 6


def test_an_extraction_that_breaks_off_goes_on_and_ends_as_an_undisturbed_one(tmp_path: Path, small: Backbone) -> None:
    photos = listed(tmp_path / "photos", 11)
    told: list[int] = []

    def stop_after_six(count: int) -> None:
        told.append(count)
        if sum(told) >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(small, photos, tmp_path / "cache", batch=3, on_done=stop_after_six)
    assert not list((tmp_path / "cache").glob("[!.]*.npy"))
    told.clear()
    resumed = extract(small, photos, tmp_path / "cache", batch=3, on_done=told.append)
    assert told == [6, 3, 2]
    assert np.array_equal(resumed, extract(small, photos, tmp_path / "other", batch=3))
    left = sorted(path.suffix for path in (tmp_path / "cache").iterdir())
    assert left == [".json", ".lock", ".npy"]


def test_two_extractions_of_one_thing_take_turns(tmp_path: Path, small: Backbone) -> None:
    photos = listed(tmp_path / "photos", 6)
    told: list[list[int]] = [[], []]
    workers = [
        threading.Thread(
            target=extract, args=(small, photos, tmp_path / "cache"), kwargs={"batch": 2, "on_done": told[index].append}
        )
        for index in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(told, key=len) == [[6], [0, 2, 2, 2]]


def test_memory_holds_one_batch_however_many_photos(
    tmp_path: Path, small: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = listed(tmp_path / "photos", 4) * 5
    alive: list[int] = []
    kept: list[weakref.ref[torch.Tensor]] = []
    decode = features.stack

    def counted(chosen: list[Photo], *way: Any) -> torch.Tensor:
        kept.append(weakref.ref(made := decode(chosen, *way)))
        alive.append(sum(len(pixels) for ref in kept if (pixels := ref()) is not None))
        return made

    monkeypatch.setattr(features, "stack", counted)
    assert isinstance(extract(small, photos, tmp_path / "cache", batch=4), np.memmap)
    assert alive == [4] * 5


def test_features_of_pixels_are_those_of_the_file(tmp_path: Path, small: Backbone) -> None:
    photos = listed(tmp_path / "photos", 2)
    pixels = features.stack(photos, small.geometry, 1)
    assert np.allclose(features_of(small, pixels), extract(small, photos, tmp_path / "cache"), atol=1e-5)


def test_drawing_weights_leaves_the_callers_chance_alone() -> None:
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    backbone(Model(arch="resnet10-w8"), px=32)
    assert torch.equal(torch.rand(1), before)


def test_nothing_has_no_features(tmp_path: Path, small: Backbone) -> None:
    with pytest.raises(DataError, match="no photos"):
        extract(small, [], tmp_path)


@pytest.mark.parametrize(
    ("arch", "px", "width"),
    [("inception_v3", 299, 2048), ("resnet18", 224, 512), ("timm/xception41", 299, 2048), ("squeezenet1_1", 224, 512)],
)
def test_a_backbone_sees_what_it_was_designed_for(arch: str, px: int, width: int) -> None:
    assert natural_px(arch) == px
    assert backbone(Model(arch=arch), px=96).width == width
