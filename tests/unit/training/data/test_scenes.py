"""Photos of one scene are found by folder, time, file name or look, and none of their scene is in another split."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.photo_folders import photo
from training.data.inspect import inspect
from training.data.photos import COMPOSED, Photo
from training.data.scenes import scene_pairs
from training.data.splits import divide
from training.errors import DataError
from training.recipes.recipe import Splitting


def found(uri: str, taken: float | None = None, source: str = "s", split: str | None = None) -> Photo:
    return Photo(uri, uri, source, label="acme", split=split, sha256=uri, taken=taken)


def pairs(items: list[Photo], *scenes: str, **rules: float) -> set[tuple[int, int]]:
    return scene_pairs(items, Splitting.model_validate({"scenes": scenes, **rules}), None)


def test_photos_taken_within_the_gap_are_one_scene_wherever_they_stand_in_the_list() -> None:
    items = [found("a/1.jpg", 100.0), found("a/9.jpg", 500.0), found("a/2.jpg", 155.0), found("a/3.jpg", 210.0)]
    assert pairs(items, "time") == {(0, 2), (2, 3)}
    assert pairs(items, "time", gap_s=10) == set()
    assert pairs([found("a/1.jpg", 5.0), found("b/2.jpg", 5.0), found("a/3.jpg")], "time") == set()
    assert pairs([found("a/1.jpg", 5.0), found("a/2.jpg", 5.0, "other")], "time") == set()


def test_names_that_differ_in_their_last_number_by_one_are_a_series() -> None:
    names = ("IMG_0009.jpg", "IMG_0010.JPG", "IMG_0012.jpg", "DSC_0011.jpg", "IMG_0011-edit.jpg", "cover.jpg")
    assert pairs([found(f"a/{name}") for name in names], "names") == {(0, 1)}
    assert pairs([found(f"{folder}/{n}.jpg") for n, folder in enumerate("ab")], "names") == set()
    assert pairs([found(f"a/{'9' * 200}.jpg"), found(f"a/1{'0' * 200}.jpg"), found("a/٣.jpg")], "names") == {(0, 1)}
    assert pairs([], "names") == set()


def test_a_folder_is_one_scene_where_that_is_asked() -> None:
    items = [found(uri) for uri in ("x/a/1.jpg", "x/b/1.jpg", "x/a/2.jpg", "x/a/c/1.jpg", f"{COMPOSED}x/a/1")]
    assert pairs(items, "folder") == {(0, 2)}


def test_photos_whose_features_are_alike_are_one_scene_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    scenes = rng.normal(0, 1, (30, 64))
    shown = rng.integers(0, 30, 1500)
    features = scenes[shown] + rng.normal(0, 0.1, (1500, 64))
    items = [found(f"{n}.jpg") for n in range(1500)]
    rules = Splitting(scenes=("look",))
    assert scene_pairs(items, rules, lambda _: features) == {
        (a, b) for a in range(1500) for b in range(a + 1, 1500) if shown[a] == shown[b]
    }
    with pytest.raises(DataError, match="features of photos, which are not at hand"):
        scene_pairs(items, rules, None)
    photos, leaks = divide(items, rules, lambda _: features)
    splits = defaultdict(set)
    for one, scene in zip(photos, shown, strict=True):
        splits[int(scene)].add(one.split)
    assert leaks["between_splits"]["scene"] == 0
    assert all(len(own) == 1 for own in splits.values())
    assert set.union(*splits.values()) == {"train", "val", "test"}


def test_of_a_scene_in_two_given_splits_all_training_photos_are_dropped() -> None:
    items = [found(f"a/{n}.jpg", float(n), split="test" if n == 3 else "train") for n in range(4)]
    photos, leaks = divide([*items, found("a/9.jpg", 900.0, split="train")], Splitting())
    assert [(one.id, one.split) for one in photos] == [("a/3.jpg", "test"), ("a/9.jpg", "train")]
    assert leaks["between_splits"]["scene"] == 1


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("2026:11:28 14:40:05", True),
        ("9999:12:31 23:59:59", True),
        ("0000:00:00 00:00:00", False),
        ("yesterday", False),
        ("", False),
    ],
)
def test_the_time_of_a_photo_is_that_of_the_exposure_and_not_of_a_change(
    tmp_path: Path,
    text: str,
    known: bool,
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.DateTime] = "2001:01:01 00:00:00"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = text
    photo(1, 0).save(tmp_path / "a.jpg", exif=exif)
    seen = inspect(Photo("a", str(tmp_path / "a.jpg"), "s"))
    assert isinstance(seen, Photo)
    assert (seen.taken is not None) == known
    if text.startswith("2026"):
        assert seen.taken is not None
        assert seen.taken % 60 == 5
