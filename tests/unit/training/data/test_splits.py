"""Nothing alike is on both sides of a split, every label is on all sides, and what cannot be read is listed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from tests.photo_folders import brand_folders, photo
from training.data.assemble import assemble
from training.data.inspect import difference_hash
from training.data.manifest import load_manifest
from training.data.photos import FOREIGN, Photo
from training.data.splits import divide, near_pairs
from training.errors import DataError
from training.recipes.files import parse
from training.recipes.recipe import Recipe, Splitting

QUIET = Console(quiet=True)


def recipe_of(folder: Path, **data: object) -> Recipe:
    values = {"root": str(folder), "sources": [{"kind": "folders", "path": "."}], "cache": None, **data}
    return parse({"task": "brand", "data": values})


def found(index: int, label: str = "acme", group: str = "", split: str | None = None, dhash: int = 0) -> Photo:
    return Photo(str(index), "", "s", label=label, group=group, split=split, sha256=str(index), dhash=dhash)


@settings(max_examples=40)
@given(seed=st.integers(0, 999), count=st.integers(20, 120), groups=st.integers(1, 40))
def test_a_group_is_never_divided(seed: int, count: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    items = [found(i, str(rng.choice(["a", "b"])), f"g{rng.integers(groups)}") for i in range(count)]
    photos, leaks = divide(items, Splitting(seed=seed))
    assert len(photos) == count
    assert sum(leaks["between_splits"].values()) == 0
    by_group: dict[str, set[str | None]] = {}
    for item in photos:
        by_group.setdefault(item.group, set()).add(item.split)
    assert all(len(splits) == 1 for splits in by_group.values())


@settings(max_examples=20)
@given(seed=st.integers(0, 999), rare=st.integers(8, 30))
def test_every_label_has_its_share_of_every_split(seed: int, rare: int) -> None:
    items = [found(i, "common") for i in range(200)] + [found(1000 + i, "rare") for i in range(rare)]
    photos, _ = divide(items, Splitting(val=0.2, test=0.2, seed=seed))
    for label, total in (("common", 200), ("rare", rare)):
        for split in ("val", "test"):
            own = sum(item.split == split and item.label == label for item in photos)
            assert total * 0.2 - 1 <= own <= total * 0.2 + 1


@settings(max_examples=40)
@given(st.lists(st.integers(1, 2**64 - 1), min_size=2, max_size=30), st.integers(0, 8), st.data())
def test_near_pairs_are_all_pairs_within_the_distance(hashes: list[int], bits: int, data: st.DataObject) -> None:
    flips = data.draw(st.lists(st.integers(0, 63), max_size=9, unique=True))
    hashes.append(max(1, hashes[0] ^ sum(1 << bit for bit in flips)))
    brute = {
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (hashes[i] ^ hashes[j]).bit_count() <= bits
    }
    assert near_pairs(hashes, bits) == brute


def test_an_image_hash_survives_what_uploads_do() -> None:
    original = photo(3, 0, (480, 400))
    small = original.resize((240, 200), Image.Resampling.BILINEAR)
    assert (difference_hash(original) ^ difference_hash(small)).bit_count() <= 2
    assert (difference_hash(original) ^ difference_hash(photo(4, 0, (480, 400)))).bit_count() > 8


def test_copies_across_given_splits_leave_training_or_stop_it(tmp_path: Path) -> None:
    brand_folders(tmp_path / "train")
    brand_folders(tmp_path / "val", 3)  # the same photos as the first three of train
    brand_folders(tmp_path / "test", 1)
    manifest = assemble(recipe_of(tmp_path), QUIET)
    assert manifest.leaks["between_splits"]["exact"] >= 9
    assert len(manifest.of("train")) == 3 * 11
    assert len(manifest.of("test")) == 3
    again, leaks = divide([replace(p, dhash=0) for p in manifest.photos], Splitting(on_leak="fail"))
    assert sum(leaks["between_splits"].values()) == 0
    assert len(again) == len(manifest.photos)
    with pytest.raises(DataError, match="leak between splits, such as"):
        assemble(recipe_of(tmp_path, split={"on_leak": "fail"}), QUIET)


def test_a_group_in_three_given_splits_stays_in_the_last() -> None:
    items = [found(index, group="u1", split=split) for index, split in enumerate(("train", "val", "test", "val"))]
    photos, leaks = divide([*items, found(9, split="train")], Splitting())
    assert [(p.id, p.split) for p in photos] == [("2", "test"), ("9", "train")]
    assert leaks["dropped"] == ["0", "1", "3"]


@pytest.mark.parametrize(("count", "splits"), [(1, ["train"]), (2, ["test", "train"]), (3, ["test", "train", "val"])])
def test_the_few_photos_of_a_class_are_trained_on_first(count: int, splits: list[str]) -> None:
    photos, _ = divide([found(index) for index in range(count)], Splitting())
    assert sorted(str(p.split) for p in photos) == splits


def test_given_test_photos_alone_can_be_kept() -> None:
    given = [found(i, split="train" if i < 60 else "val" if i < 80 else "test") for i in range(100)]
    kept, _ = divide(given, Splitting(keep_given="test", val=0.25))
    assert {p.id for p in kept if p.split == "test"} == {str(i) for i in range(80, 100)}
    val = {int(p.id) for p in kept if p.split == "val"}
    assert len(val) == 20
    assert min(val) < 60
    drawn, _ = divide(given[:80], Splitting(keep_given="test", val=0.25, test=0.25))
    assert sum(p.split == "test" for p in drawn) == 20


def test_a_photo_under_two_labels_is_reported(tmp_path: Path) -> None:
    brand_folders(tmp_path)
    (tmp_path / "bolt" / "copy.jpg").write_bytes((tmp_path / "acme" / "0.jpg").read_bytes())
    made = assemble(recipe_of(tmp_path), QUIET)
    assert made.leaks["same_bytes_other_label"] == [["acme/0.jpg", "bolt/copy.jpg"]]
    assert "1 pairs of equal files have two labels, such as acme/0.jpg and bolt/copy.jpg" in made.remarks()


def test_unreadable_files_are_listed_and_not_fatal(tmp_path: Path) -> None:
    brand_folders(tmp_path)
    (tmp_path / "acme" / "broken.jpg").write_bytes(b"\xff\xd8 not much of a JPEG")
    (tmp_path / "acme" / "empty.png").write_bytes(b"")
    manifest = assemble(recipe_of(tmp_path), QUIET)
    assert {broken["id"]: broken["reason"] for broken in manifest.unreadable}.keys() == {
        "acme/broken.jpg",
        "acme/empty.png",
    }
    assert len(manifest.photos) == 42


def test_photos_that_the_service_does_not_read_are_reported_and_not_left_out_in_silence(tmp_path: Path) -> None:
    brand_folders(tmp_path)
    with Image.open(tmp_path / "acme" / "0.jpg") as image:
        image.save(tmp_path / "acme" / "scan.BMP")
        image.save(tmp_path / "acme" / "scan.tif")
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "acme" / "new.avif")
    (tmp_path / "acme" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "acme" / "notes.txt").write_bytes(b"no photo")
    manifest = assemble(recipe_of(tmp_path), QUIET)
    reasons = {broken["id"]: broken["reason"] for broken in manifest.unreadable}
    assert reasons.keys() == {"acme/scan.BMP", "acme/scan.tif", "acme/phone.heic"}
    assert all("the service reads JPEG, PNG, WEBP, GIF, AVIF" in reason for reason in reasons.values())
    assert "acme/new.avif" in {photo.id for photo in manifest.photos}


def test_foreign_photos_are_a_split_of_their_own(tmp_path: Path) -> None:
    brand_folders(tmp_path / "own")
    brand_folders(tmp_path / "else", 2)
    manifest = assemble(recipe_of(tmp_path / "own", foreign=[str(tmp_path / "else")], split={"near_bits": 0}), QUIET)
    assert {p.label for p in manifest.of(FOREIGN)} == {"no_logo"}
    assert manifest.leaks["between_splits"]["exact"] > 0  # `else` holds copies: the training copies went
    assert len(manifest.of(FOREIGN)) == 6


def test_ordinary_photos_are_trained_on_as_photos_without_a_brand(tmp_path: Path) -> None:
    brand_folders(tmp_path / "own")
    for index in range(20):
        (tmp_path / "else" / "deep").mkdir(parents=True, exist_ok=True)
        photo(100 + index, 0).save(tmp_path / "else" / "deep" / f"{index}.png")
    manifest = assemble(recipe_of(tmp_path / "own", ordinary=[str(tmp_path / "else")]), QUIET)
    added = [one for one in manifest.photos if one.id.startswith("ordinary/deep/")]
    assert len(added) == 20
    assert {one.label for one in added} == {"no_logo"}
    assert {one.split for one in added} == {"train", "val", "test"}
    assert {one.metadata["origin"] for one in added} == {"ordinary"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"the ordinary folder .* holds no photos"):
        assemble(recipe_of(tmp_path / "own", ordinary=[str(tmp_path / "empty")]), QUIET)


def test_the_manifest_is_addressed_by_content_and_not_by_place(tmp_path: Path) -> None:
    for name in ("here", "there"):
        brand_folders(tmp_path / name)
    here, there = (assemble(recipe_of(tmp_path / name), QUIET) for name in ("here", "there"))
    moved = replace(there, photos=tuple(replace(p, source=p.source) for p in there.photos))
    assert here.sha256 == moved.sha256
    photo(99, 0).save(tmp_path / "there" / "acme" / "0.jpg")
    assert assemble(recipe_of(tmp_path / "there"), QUIET).sha256 != here.sha256


def test_a_changed_manifest_is_refused(tmp_path: Path) -> None:

    brand_folders(tmp_path / "photos")
    manifest = assemble(recipe_of(tmp_path / "photos"), QUIET)
    path = tmp_path / "data.json"
    path.write_text(json.dumps(manifest.as_json()))
    assert load_manifest(path) == manifest
    path.write_text(path.read_text().replace('"label": "acme"', '"label": "bolt"', 1))
    with pytest.raises(DataError, match="was changed"):
        load_manifest(path)


def test_data_that_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="lists no photos"):
        assemble(recipe_of(tmp_path / "empty"), QUIET)
    with pytest.raises(DataError, match="no folder"):
        assemble(recipe_of(tmp_path / "nowhere"), QUIET)
    with pytest.raises(DataError, match="does not fit the recipe's task"):
        assemble(recipe_of(tmp_path, sources=[{"kind": "damaged"}]), QUIET)
