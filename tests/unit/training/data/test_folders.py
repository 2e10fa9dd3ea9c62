"""Folders of brand photos as people have them become the brands, splits and counts that people mean."""

import os
import unicodedata
from pathlib import Path

import pytest
from rich.console import Console

from tests.photo_folders import brand_folders, photo
from training.data.assemble import assemble
from training.data.brands import folders, grocery
from training.data.contact import write_photos
from training.data.manifest import Manifest, load_manifest
from training.data.photos import NO_LOGO, Photo
from training.data.walk import LeftOut, photos_of
from training.errors import DataError
from training.recipes.recipe import Data, Recipe, Splitting
from training.recipes.sources import ComposedSource, FoldersSource, GrocerySource, Source

QUIET = Console(quiet=True)


def listed(folder: Path, **values: tuple[str, ...]) -> list[Photo]:
    return photos_of(folders(FoldersSource(kind="folders", path=folder, **values)))


def assembled(*sources: Source | Path, foreign: tuple[Path, ...] = (), **split: object) -> Manifest:
    read = tuple(FoldersSource(kind="folders", path=one) if isinstance(one, Path) else one for one in sources)
    rules = Splitting.model_validate({"val": 0.2, "test": 0.2, **split})
    return assemble(Recipe(task="brand", data=Data(sources=read, foreign=foreign, split=rules)), QUIET)


def one_photo(path: Path, seed: int = 0, label: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    photo(seed, label).save(path, path.suffix[1:].upper().replace("JPG", "JPEG") or "JPEG")


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("Train", "Valid", "Test"), ("TRAINING", "validation", "testing"), ("trainset", "valset", "testset")],
)
def test_splits_are_known_in_any_case_and_by_their_usual_names(tmp_path: Path, train: str, val: str, test: str) -> None:
    for folder in (train, val, test):
        one_photo(tmp_path / folder / "acme" / "1.jpg")
    one_photo(tmp_path / "spare" / "acme" / "1.jpg")
    (tmp_path / "readme.txt").write_text("none of them")
    found = list(folders(FoldersSource(kind="folders", path=tmp_path)))
    assert [(p.split, p.label) for p in photos_of(found)] == [("train", "acme"), ("val", "acme"), ("test", "acme")]
    left = {one.path.name: (one.reason, one.files) for one in found if isinstance(one, LeftOut)}
    assert left == dict.fromkeys(("spare", "readme.txt"), ("beside the split folders", 1))


@pytest.mark.parametrize(("split", "missing"), [("Train", "validate"), ("valid", "train")])
def test_a_split_that_the_data_lack_is_named_with_what_to_do(tmp_path: Path, split: str, missing: str) -> None:
    brand_folders(tmp_path / split, each=8)
    with pytest.raises(DataError, match=rf"no photo is left to {missing} on; .*keep_given=false"):
        assembled(tmp_path)
    assert assembled(tmp_path, keep_given=False).of("val")


def test_where_test_photos_are_given_but_none_to_validate_on_the_error_says_how_to_keep_them(tmp_path: Path) -> None:
    brand_folders(tmp_path / "train", each=8)
    for label, name in enumerate(("acme", "bolt", "no_logo")):
        one_photo(tmp_path / "test" / name / "held_out.jpg", 99, label)
    with pytest.raises(DataError, match=r"validate on; .*keep_given=false, or =test, which keeps the test photos"):
        assembled(tmp_path)
    made = assembled(tmp_path, keep_given="test")
    assert made.of("val")
    assert {Path(photo.uri).name for photo in made.of("test")} == {"held_out.jpg"}


def test_a_name_is_one_label_however_a_system_stores_it(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        one_photo(tmp_path / form / unicodedata.normalize(form, "Müller") / unicodedata.normalize(form, "é.jpg"))
    (composed,), (decomposed,) = listed(tmp_path / "NFC"), listed(tmp_path / "NFD")
    assert composed.label == decomposed.label == "M\u00fcller"
    assert composed.id == decomposed.id == "M\u00fcller/\u00e9.jpg"
    assert Path(decomposed.uri).is_file()


@pytest.mark.parametrize(("one", "other"), [("Acme", "ACME"), ("Straße", "STRASSE"), ("a b", "A  B")])
def test_names_that_differ_only_in_case_or_spaces_are_named(tmp_path: Path, one: str, other: str) -> None:
    one_photo(tmp_path / "train" / one / "1.jpg")
    one_photo(tmp_path / "test" / other / "1.jpg")
    with pytest.raises(DataError) as raised:
        assembled(tmp_path)
    assert one in str(raised.value)
    assert other in str(raised.value)


@pytest.mark.parametrize("name", ["No_Logo", "no-logo", "NO LOGO", "nologo", "NoLogo"])
def test_no_logo_is_known_however_it_is_written(tmp_path: Path, name: str) -> None:
    one_photo(tmp_path / name / "1.jpg")
    assert [p.label for p in listed(tmp_path)] == [NO_LOGO]


@pytest.mark.parametrize(
    "name", ["none", "No Brand", "Background", "OTHER", "negatives", "unknown", "Negative samples"]
)
def test_a_folder_that_may_be_a_brand_or_none_is_asked_about(tmp_path: Path, name: str) -> None:
    one_photo(tmp_path / name / "1.jpg")
    with pytest.raises(DataError, match=rf"the folder {name} .*data\.sources\.0\.no_logo=.*\"{name}\""):
        listed(tmp_path)
    assert [p.label for p in listed(tmp_path, no_logo=("no_logo", name))] == [NO_LOGO]


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "two\nlines", "bell\a", "acme ", "\u3000acme"])
def test_a_name_that_cannot_be_a_label_is_refused(tmp_path: Path, name: str) -> None:
    one_photo(tmp_path / name / "1.jpg")
    with pytest.raises(DataError, match="cannot be the name of a brand"):
        listed(tmp_path)


def test_a_file_name_that_is_not_utf8_goes_through(tmp_path: Path) -> None:
    brand_folders(tmp_path / "photos")
    one_photo(tmp_path / "photos" / "acme" / os.fsdecode(b"\xff.jpg"), 99, 0)
    (tmp_path / "photos" / "acme" / os.fsdecode(b"\xfe.jpg")).write_bytes(b"no photo")
    made = assembled(tmp_path / "photos")
    assert "acme/\\udcff.jpg" in {p.id for p in made.photos}
    write_photos(made, 16, tmp_path / "made", QUIET)
    assert load_manifest(tmp_path / "made" / "data.json") == made


def test_equal_file_names_in_two_sources_and_in_two_foreign_folders_are_two_photos(tmp_path: Path) -> None:
    brand_folders(tmp_path / "a" / "photos")
    for seed in (100, 200, 300):
        for index in range(4):
            one_photo(tmp_path / str(seed) / "photos" / "acme" / f"{index}.jpg", seed + index, 0)
    sources = (tmp_path / "a" / "photos", tmp_path / "100" / "photos")
    made = assembled(*sources, foreign=(tmp_path / "200" / "photos", tmp_path / "300" / "photos"))
    assert len({p.id for p in made.photos}) == len(made.photos) == 42 + 3 * 4
    assert {"acme/0.jpg", "1:acme/0.jpg", "foreign/acme/0.jpg", "3:foreign/acme/0.jpg"} <= {p.id for p in made.photos}


def test_what_the_service_does_not_read_is_left_out_and_counted_by_reason(tmp_path: Path) -> None:
    brand_folders(tmp_path)
    for name in ("1.bmp", "2.bmp", "3.tiff"):
        one_photo(tmp_path / "acme" / name)
    (tmp_path / "acme" / "scan").write_bytes((tmp_path / "acme" / "3.tiff").read_bytes())
    (tmp_path / "acme" / "cut.jpg").write_bytes((tmp_path / "acme" / "0.jpg").read_bytes()[:-200])
    (tmp_path / "acme" / "page.jpg").write_bytes(b"<html>")
    (tmp_path / "acme" / "empty.jpg").write_bytes(b"")
    photo(0, 0, (12, 40)).save(tmp_path / "acme" / "narrow.png")
    (tmp_path / "labels.csv").write_text("a,b\n")
    one_photo(tmp_path / "loose.jpg")
    one_photo(tmp_path / ".ipynb_checkpoints" / "0-checkpoint.jpg")
    made = assembled(tmp_path)
    assert len(made.photos) == 42
    assert made.labels == ("acme", "bolt", NO_LOGO)
    assert made.left_out == {
        "BMP, which the service does not read": 2,
        "TIFF, which the service does not read": 2,
        "broken": 1,
        "no photo": 2,
        "empty file": 1,
        "too small": 1,
        "in no folder of a class": 1,
        "hidden folder: .ipynb_checkpoints": 1,
    }
    assert next(made.remarks()).startswith("left out: 2 BMP, which the service does not read; 2 TIFF")


def test_links_out_of_a_source_are_followed_and_said(tmp_path: Path) -> None:
    pool = brand_folders(tmp_path / "pool")
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("acme", "bolt", "no_logo"):
        (folder / name).symlink_to(pool / name)
    made = assembled(folder)
    assert len(made.photos) == 42
    assert list(made.remarks()) == [f"followed: 3 links out of the sources, to {pool}"]


def test_links_to_many_folders_are_one_line(tmp_path: Path) -> None:
    for name in ("acme", "bolt", "no_logo"):
        for index in range(14):
            one_photo(tmp_path / "pool" / f"{name}-{index}" / "1.jpg", index, ("acme", "bolt", "no_logo").index(name))
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / name / f"{index}.jpg").symlink_to(tmp_path / "pool" / f"{name}-{index}" / "1.jpg")
    made = assembled(tmp_path / "photos")
    first = tmp_path / "pool" / "acme-0"
    assert list(made.remarks()) == [f"followed: 42 links out of the sources, to 42 folders, such as {first}"]
    assert len(made.linked) == 42


def test_links_between_the_split_folders_of_a_source_do_not_lead_out(tmp_path: Path) -> None:
    brand_folders(tmp_path / "train")
    (tmp_path / "val").symlink_to("train")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "acme").symlink_to(tmp_path / "train" / "acme")
    assert not [one for one in folders(FoldersSource(kind="folders", path=tmp_path)) if not isinstance(one, Photo)]


def test_good_folders_raise_no_doubt(tmp_path: Path) -> None:
    made = assembled(brand_folders(tmp_path))
    assert (made.doubts, made.left_out, list(made.remarks())) == ((), {}, [])


def test_a_class_that_cannot_be_learnt_or_judged_is_named(tmp_path: Path) -> None:
    brand_folders(tmp_path)
    for index in range(3):
        one_photo(tmp_path / "rare" / f"{index}.jpg", 50 + index, 1)
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "1.jpg").write_bytes(b"no photo")
    (tmp_path / "hollow").mkdir()
    empty, gone, few = assembled(tmp_path).doubts
    assert empty == f"{tmp_path / 'hollow'} holds no photo"
    assert gone == "no photo is left of gone: all are unreadable or leak"
    assert few == "too few photos to learn a class or to judge it: rare (1 train, 1 val, 1 test)"


def test_a_class_without_a_training_photo_is_named(tmp_path: Path) -> None:
    brand_folders(tmp_path / "train")
    for index, split in enumerate(("val", "test")):
        for label, name in enumerate(("acme", "bolt", "no_logo", "late")):
            one_photo(tmp_path / split / name / "1.jpg", 70 + 10 * index + label, label)
    assert assembled(tmp_path).doubts == (
        "too few photos to learn a class or to judge it: late (0 train, 1 val, 1 test)",
    )


def test_photos_without_a_brand_or_without_a_test_are_missed(tmp_path: Path) -> None:
    brand_folders(tmp_path)
    for path in (tmp_path / "no_logo").iterdir():
        path.unlink()
    (tmp_path / "no_logo").rmdir()
    missing, untested = assembled(tmp_path, test=0.0).doubts
    assert missing.startswith("no photo is without a brand")
    assert untested == "no photo to test on"


@pytest.mark.parametrize("name", ["acme", "no_logo"])
def test_one_class_alone_is_refused(tmp_path: Path, name: str) -> None:
    brand_folders(tmp_path / "all")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / name).symlink_to(tmp_path / "all" / name)
    with pytest.raises(DataError, match=f"all photos are of {name}|no photo shows a brand"):
        assembled(tmp_path / "photos")


def test_an_error_of_a_source_without_photos_says_what_it_holds(tmp_path: Path) -> None:
    one_photo(tmp_path / "1.jpg")
    one_photo(tmp_path / "@eaDir" / "1.jpg")
    with pytest.raises(
        DataError, match=r"into a folder of its name, .*; left out: 1 folder of a tool: @eaDir; 1 in no folder of a"
    ):
        assembled(tmp_path)


def test_a_foreign_folder_without_photos_is_refused(tmp_path: Path) -> None:
    brand_folders(tmp_path / "photos")
    one_photo(tmp_path / "foreign" / ".trash" / "1.jpg")
    with pytest.raises(DataError, match=r"foreign holds no photos; left out: 1 hidden folder: \.trash"):
        assembled(tmp_path / "photos", foreign=(tmp_path / "foreign",))


def test_a_brand_that_is_composed_under_another_case_is_named(tmp_path: Path) -> None:
    one_photo(tmp_path / "Adidas" / "1.jpg")
    with pytest.raises(DataError, match="the brands Adidas and adidas differ only in case"):
        assembled(tmp_path, ComposedSource(kind="composed"))


def test_a_package_outside_of_a_products_folder_is_not_taken_as_without_a_brand(tmp_path: Path) -> None:
    for path in ("Packages/Milk/Arla-Milk/1.jpg", "Packages/2.jpg", "Fruit/Apple/3.jpg", "4.jpg"):
        one_photo(tmp_path / path)
    found = list(grocery(GrocerySource(kind="grocery", path=tmp_path)))
    assert {p.id: p.label for p in photos_of(found)} == {
        "Packages/Milk/Arla-Milk/1.jpg": "Arla",
        "Fruit/Apple/3.jpg": NO_LOGO,
    }
    assert {one.path.name: one.reason for one in found if isinstance(one, LeftOut)} == {
        "2.jpg": "in no folder of a product",
        "4.jpg": "in no folder of a class",
    }
