"""Every layout of photos is read as it is distributed, and a broken list says where it is broken."""

import csv
from pathlib import Path

import openpyxl
import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console

from tests.photo_folders import brand_folders, photo
from training.data.assemble import assemble
from training.data.brands import brand_of, class_names, flickr_logos, folders, grocery, open_images
from training.data.photos import NO_LOGO
from training.data.ratings import ava, by_photo, koniq, listed, spaq
from training.data.walk import photos_of
from training.errors import DataError
from training.recipes.files import read
from training.recipes.sources import (
    AvaSource,
    FlickrLogosSource,
    FoldersSource,
    GrocerySource,
    KoniqSource,
    OpenImagesSource,
    RatingsSource,
    SpaqSource,
)

ROWS = [
    {"image": "a.jpg", "rating": "4.5", "uploader": "u1", "place": "Oslo"},
    {"image": "https://photos.example/b.jpg", "rating": "1", "uploader": "u1", "place": ""},
]


def ratings(path: Path, **values: str) -> RatingsSource:
    return RatingsSource(kind="ratings", path=path, **values)


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xlsx"])
def test_a_list_of_ratings_reads_the_same_from_any_kind_of_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"list{suffix}"
    if suffix == ".csv":
        write_csv(path, ROWS)
    elif suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist([{**row, "rating": float(row["rating"])} for row in ROWS]), path)
    else:
        book = openpyxl.Workbook()
        book.active.append(list(ROWS[0]))
        for row in ROWS:
            book.active.append(list(row.values()))
        book.save(path)
    first, second = listed(ratings(path, group="uploader"))
    assert (first.uri, first.rating, first.group) == (str(tmp_path / "a.jpg"), 4.5, "u1")
    assert first.metadata == {"place": "Oslo"}
    assert (second.uri, second.rating, second.metadata) == ("https://photos.example/b.jpg", 1.0, {})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_list_is_read_in_every_encoding_that_it_names(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.csv").write_text("image,rating\ncaf\u00e9.jpg,4\n\U0001f600.jpg,2\n", encoding=encoding)
    assert [p.id for p in listed(ratings(tmp_path / "list.csv"))] == ["caf\u00e9.jpg", "\U0001f600.jpg"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_columns_of_a_list_are_separated_as_its_header_is(tmp_path: Path, separator: str) -> None:
    lines = [("image", "rating", "place"), ("a.jpg", "4.5", '"Oslo, Bergen; Voss\tand more"'), ("b.jpg", "1", "")]
    text = "\r\n".join(separator.join(line) for line in lines)
    (tmp_path / "list.csv").write_bytes(text.encode("utf-16"))  # with tabs, the "Unicode text" of Excel
    first, second = listed(ratings(tmp_path / "list.csv"))
    assert (first.id, first.rating, first.metadata) == ("a.jpg", 4.5, {"place": "Oslo, Bergen; Voss\tand more"})
    assert (second.id, second.rating, second.metadata) == ("b.jpg", 1.0, {})


@pytest.mark.parametrize("header", ['image;rating;"size, in, px"', "image;rating;place, or none"])
def test_a_header_of_semicolons_may_name_columns_with_commas(tmp_path: Path, header: str) -> None:
    (tmp_path / "list.csv").write_text(f"{header}\na.jpg;4,5;x\n")
    (found,) = listed(ratings(tmp_path / "list.csv"))
    assert (found.id, found.rating) == ("a.jpg", 4.5)


@pytest.mark.parametrize(
    "text",
    [
        "IMAGE;Rating\na.jpg;4,5\n",
        "sep=;\nimage;rating\na.jpg;4,5\n",
        'sep=;\r\nimage;rating\r\na.jpg;"4,5"\r\n',
        "image,rating,,\na.jpg,4.5,,,\n",
    ],
)
def test_a_list_as_office_programs_save_it_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.csv").write_bytes(text.encode())
    assert [(p.id, p.rating) for p in listed(ratings(tmp_path / "list.csv"))] == [("a.jpg", 4.5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,rating\na.jpg,4,5\n", "line 2: more cells than the header has columns; put quotes"),
        ("sep=,\nimage,rating\na.jpg,4\nb.jpg,4,5\n", "line 4: more cells"),
        ("image,rating,rating\na.jpg,4,5\n", "two columns rating"),
        ("image,Rating,RATING\na.jpg,4,5\n", "no column rating; it has image, Rating, RATING"),
        (
            "photo,rating\na.jpg,4\n",
            "no column image; it has photo, rating; name yours, such as --set 'data.sources.0.image=\"photo\"'",
        ),
        ("image,m o s\na.jpg,4\n", "--set 'data.sources.0.rating=\"m o s\"'"),
    ],
)
def test_a_list_that_may_mean_two_things_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError) as raised:
        list(listed(ratings(tmp_path / "list.csv")))
    assert message in str(raised.value)


def test_a_list_whose_photos_are_elsewhere_is_told_where_its_paths_begin(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("image,rating\na.jpg,4\nb.jpg,2\n")
    with pytest.raises(DataError, match=r"2 cannot be opened.*a\.jpg.*--set data\.sources\.0\.photos=photos"):
        assemble(read("my-quality", [f"data.root={tmp_path}", "data.sources.0.path=list.csv"]), Console(quiet=True))


def test_backslashes_of_windows_lead_to_the_photos(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.jpg").touch()
    (tmp_path / "b\\c.jpg").touch()
    (tmp_path / "list.csv").write_text("image,rating\none\\a.jpg,3\nb\\c.jpg,3\n")
    found = [p.uri for p in listed(ratings(tmp_path / "list.csv"))]
    assert found == [str(tmp_path / "one" / "a.jpg"), str(tmp_path / "b\\c.jpg")]


@pytest.mark.parametrize("uri", ["HTTP://host/a.jpg", "File:///a.jpg", "/a.jpg"])
def test_a_list_may_name_photos_anywhere(tmp_path: Path, uri: str) -> None:
    (tmp_path / "list.csv").write_text(f"image,rating\n{uri},3\n")
    assert [p.uri for p in listed(ratings(tmp_path / "list.csv"))] == [uri]


def test_a_list_with_zero_bytes_is_not_taken_for_a_wide_encoding(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"\x1f\x8b\x08\0\0\0\0\0 image,rating,and,more,columns,than,that")
    with pytest.raises(DataError, match="not UTF-8"):
        list(listed(ratings(tmp_path / "list.csv")))


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("cp1252", "line 3: byte 0xe9 is not UTF-8; .* often in cp1252: .*iconv -f CP1252 -t UTF-8 list"),
        ("utf-16-le", "looks like UTF-16LE without a byte-order mark: .*iconv -f UTF-16LE"),
        ("utf-16-be", "looks like UTF-16BE without a byte-order mark"),
    ],
)
@pytest.mark.parametrize("kind", ["ratings", "ava", "flickrlogos32", "classes"])
def test_a_list_in_another_encoding_is_refused_with_its_name(
    tmp_path: Path, encoding: str, message: str, kind: str
) -> None:
    names = {"flickrlogos32": "trainset.relpaths.txt"}
    path = tmp_path / names.get(kind, "list.csv")
    path.write_bytes("image,rating\na.jpg,4\ncaf\u00e9.jpg,4\n".encode(encoding))
    read = {
        "ratings": lambda: listed(ratings(path)),
        "ava": lambda: ava(AvaSource(kind="ava", path=path, photos=tmp_path)),
        "flickrlogos32": lambda: flickr_logos(FlickrLogosSource(kind="flickrlogos32", path=tmp_path)),
        "classes": lambda: class_names(path),
    }
    with pytest.raises(DataError, match=message.replace("list", path.name.partition(".")[0])):
        list(read[kind]())


def test_a_long_list_is_read_line_by_line_and_names_the_line_of_a_wrong_byte(tmp_path: Path) -> None:
    lines = ["image,rating", *(f"{number}.jpg,3" for number in range(3_000)), "caf\u00e9.jpg,3"]
    (tmp_path / "list.csv").write_text("\n".join(lines), encoding="latin-1")
    found = iter(listed(ratings(tmp_path / "list.csv")))
    assert next(found).id == "0.jpg"
    with pytest.raises(DataError, match="line 3002: byte 0xe9"):
        list(found)


@pytest.mark.parametrize(
    ("text", "split"), [("Train", "train"), ("VALIDATION", "val"), ("testing ", "test"), ("", None)]
)
def test_the_split_of_a_row_is_known_in_any_case(tmp_path: Path, text: str, split: str | None) -> None:
    row = {"image": "a.jpg", "rating": "3", "part": text}
    (found,) = listed(ratings(write_csv(tmp_path / "list.csv", [row]), split="part"))
    assert found.split == split
    with pytest.raises(DataError, match="line 2: split holdout is not one of train, val, test"):
        list(listed(ratings(write_csv(tmp_path / "list.csv", [{**row, "part": "holdout"}]), split="part")))


def test_a_photo_that_several_people_rated_has_their_mean_and_what_its_rows_share(tmp_path: Path) -> None:
    rows = [
        {"image": "a.jpg", "rating": "2", "uploader": "u1", "place": "Oslo", "by": "kim"},
        {"image": "b.jpg", "rating": "5", "uploader": "u2", "place": "Bergen", "by": "kim"},
        {"image": "a.jpg", "rating": "4", "uploader": "u1", "place": "Oslo", "by": "lee"},
        {"image": "a.jpg", "rating": "4", "uploader": "u1", "place": "Oslo", "by": "noa"},
    ]
    made = list(by_photo(ratings(write_csv(tmp_path / "list.csv", rows), group="uploader")))
    assert [(p.id, p.rating, p.group) for p in made] == [("a.jpg", 3.3333, "u1"), ("b.jpg", 5.0, "u2")]
    assert [p.metadata for p in made] == [{"place": "Oslo"}, {"place": "Bergen", "by": "kim"}]
    with pytest.raises(DataError, match=r"rows of a\.jpg differ in group: kim, lee, noa"):
        list(by_photo(ratings(tmp_path / "list.csv", group="by")))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "a.jpg", "rating": "6"}, "line 2: rating 6 is not within 1..5"),
        ({"image": "a.jpg", "rating": "good"}, "line 2: 'good' is not a number"),
        ({"image": "", "rating": "3"}, "line 2: '' names no photo"),
        ({"image": "s3://b/a.jpg", "rating": "3"}, "line 2: 's3://b/a.jpg' names no photo by path, file:, http:"),
        ({"image": "a.jpg", "score": "3"}, "no column rating; it has image, score"),
    ],
)
def test_a_wrong_rating_is_named_by_its_line(tmp_path: Path, row: dict[str, str], message: str) -> None:
    with pytest.raises(DataError) as raised:
        list(listed(ratings(write_csv(tmp_path / "list.csv", [row]))))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("scale", "rating", "level"),
    [((0.0, 1.0), "0.75", 4.0), ((1.0, 10.0), "10", 5.0), ((6.0, 1.0), "6", 1.0), ((6.0, 1.0), "1,0", 5.0)],
)
def test_a_rating_of_any_scale_becomes_a_level(
    tmp_path: Path, scale: tuple[float, float], rating: str, level: float
) -> None:
    (tmp_path / "list.csv").write_text(f"image;rating\na.jpg;{rating}\n")
    assert [photo.rating for photo in listed(ratings(tmp_path / "list.csv", scale=scale))] == [level]


@pytest.mark.parametrize(
    ("scale", "rating", "message"),
    [
        ((0.0, 1.0), "3", r"line 2: rating 3 is not within 0..1; give the column's worst and best .*`scale`"),
        ((6.0, 1.0), "0.9", r"line 2: rating 0.9 is not within 6..1"),
        ((0.0, 1.0), "nan", "line 2: rating nan is not within 0..1"),
        ((2.0, 2.0), "2", "the scale of .* has equal ends: 2"),
    ],
)
def test_a_rating_outside_its_scale_is_refused(
    tmp_path: Path, scale: tuple[float, float], rating: str, message: str
) -> None:
    listing = listed(ratings(write_csv(tmp_path / "list.csv", [{"image": "a.jpg", "rating": rating}]), scale=scale))
    with pytest.raises(DataError, match=message):
        list(listing)


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    for name in ("x.parquet", "x.xlsx"):
        (tmp_path / name).write_bytes(b"not a table")
        with pytest.raises(DataError, match="x"):
            list(listed(ratings(tmp_path / name)))
    with pytest.raises(DataError, match="no table"):
        list(listed(ratings(tmp_path / "none.csv")))


def test_ava_votes_become_five_levels(tmp_path: Path) -> None:
    (tmp_path / "AVA.txt").write_text(
        "1 953619 0 1 5 17 38 36 15 6 5 1 1 22 1396\n2 953958 10 7 15 26 26 21 10 8 1 2 15 21 1396\n"
    )
    photos = list(ava(AvaSource(kind="ava", path=tmp_path / "AVA.txt", photos=tmp_path)))
    assert [p.uri for p in photos] == [str(tmp_path / "953619.jpg"), str(tmp_path / "953958.jpg")]
    assert photos[0].votes == pytest.approx([1 / 124, 22 / 124, 74 / 124, 21 / 124, 6 / 124], abs=1e-6)
    assert photos[0].rating == pytest.approx(3.0726, abs=1e-3)
    assert photos[0].metadata == {"challenge": "1396"}
    (tmp_path / "AVA.txt").write_text("1 953619 0 1\n")
    with pytest.raises(DataError, match="line 1: 4 columns instead of 15"):
        list(ava(AvaSource(kind="ava", path=tmp_path / "AVA.txt", photos=tmp_path)))


def test_koniq_votes_are_levels(tmp_path: Path) -> None:
    (tmp_path / "k.csv").write_text(
        '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"\n"10004473376.jpg",0,0,25,73,7,105,3.83,0.53,77.4\n'
    )
    (found,) = koniq(KoniqSource(kind="koniq10k", path=tmp_path / "k.csv", photos=Path("1024x768")))
    assert found.uri == "1024x768/10004473376.jpg"
    assert found.votes == pytest.approx([0, 0, 25 / 105, 73 / 105, 7 / 105], abs=1e-6)
    assert found.rating == pytest.approx(3.8286, abs=1e-3)


def test_spaq_scores_are_stretched(tmp_path: Path) -> None:
    row = {"Image name": "00001.jpg", "MOS": "72.17", "Brightness": "65.83", "Colorfulness": "69.33"}
    (found,) = spaq(SpaqSource(kind="spaq", path=write_csv(tmp_path / "s.csv", [row]), photos=Path("TestImage")))
    assert found.uri == "TestImage/00001.jpg"
    assert found.rating == pytest.approx(3.8868)
    assert found.metadata == {"Brightness": "65.83", "Colorfulness": "69.33"}


def test_folders_with_and_without_splits(tmp_path: Path) -> None:
    brand_folders(tmp_path / "plain", 2)
    found = photos_of(folders(FoldersSource(kind="folders", path=tmp_path / "plain")))
    assert [(p.id, p.label, p.split) for p in found][::2] == [
        ("acme/0.jpg", "acme", None),
        ("bolt/0.jpg", "bolt", None),
        ("no_logo/0.jpg", NO_LOGO, None),
    ]
    brand_folders(tmp_path / "divided" / "train", 1)
    brand_folders(tmp_path / "divided" / "test", 1)
    divided = photos_of(folders(FoldersSource(kind="folders", path=tmp_path / "divided")))
    assert [(p.id, p.split) for p in divided][:1] == [("train/acme/0.jpg", "train")]
    assert {p.split for p in divided} == {"train", "test"}


def test_flickr_logos_lists(tmp_path: Path) -> None:
    lists = {
        "trainset.relpaths.txt": ["classes/jpg/adidas/1.jpg", "classes/jpg/HP/2.jpg"],
        "valset-logosonly.relpaths.txt": ["classes/jpg/adidas/3.jpg"],
        "valset-nologos.relpaths.txt": [f"classes/jpg/no-logo/{n}.jpg" for n in range(4)],
        "testset.relpaths.txt": ["classes/jpg/hp/5.jpg", "classes/jpg/no-logo/6.jpg"],
    }
    for name, lines in lists.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    found = list(flickr_logos(FlickrLogosSource(kind="flickrlogos32", path=tmp_path)))
    assert [(p.label, p.split) for p in found] == [
        ("adidas", "train"),
        ("hp", "train"),
        ("adidas", "val"),
        *[(NO_LOGO, "train")] * 2,
        *[(NO_LOGO, "val")] * 2,
        ("hp", "test"),
        (NO_LOGO, "test"),
    ]
    assert found[0].uri == str(tmp_path / "classes/jpg/adidas/1.jpg")
    (tmp_path / "testset.relpaths.txt").unlink()
    with pytest.raises(DataError, match=r"testset\.relpaths\.txt"):
        list(flickr_logos(FlickrLogosSource(kind="flickrlogos32", path=tmp_path)))


@pytest.mark.parametrize("header", ["", "LabelName,DisplayName\n"])
def test_open_images_crops_boxes(tmp_path: Path, header: str) -> None:
    (tmp_path / "classes.csv").write_text(f"{header}/m/0cdn1,Hamburger\n/m/0l515,Sandwich\n/m/01,Tree\n")
    (tmp_path / "boxes.csv").write_text(
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
        "abc,xclick,/m/0cdn1,1,0.2,0.6,0.5,1.0,0,0,0,0,0\n"
        "abc,xclick,/m/01,1,0,1,0,1,0,0,0,0,0\n"
        "abd,xclick,/m/0l515,1,0.0,0.5,0.0,0.5,0,0,1,0,0\n"
        "abe,xclick,/m/0l515,1,0.0,0.5,0.0,0.5,0,0,0,0,0\n"
    )

    def source(**values: object) -> OpenImagesSource:
        return OpenImagesSource.model_validate(
            {
                "kind": "openimages",
                "boxes": tmp_path / "boxes.csv",
                "classes": tmp_path / "classes.csv",
                "photos": tmp_path,
                "brands": {"Hamburger": "burger"},
                "no_logo": ("Sandwich",),
                **values,
            }
        )

    burger, sandwich = open_images(source())
    assert (burger.label, burger.group, burger.box) == ("burger", "abc", (0.16, 0.45, 0.64, 1.0))
    assert (sandwich.label, sandwich.box) == (NO_LOGO, (0.0, 0.0, 0.55, 0.55))
    with pytest.raises(DataError, match="no class Pizza"):
        list(open_images(source(brands={"Pizza": "pizza"})))


def test_grocery_brands_come_from_folder_names(tmp_path: Path) -> None:
    for folder in (
        "train/Packages/Juice/God-Morgon-Apple-Juice",
        "train/Packages/Milk/Arla-Milk",
        "train/Fruit/Apple/Pink",
    ):
        (tmp_path / folder).mkdir(parents=True)
        photo(0, 0).save(tmp_path / folder / "1.jpg")
    found = photos_of(grocery(GrocerySource(kind="grocery", path=tmp_path)))
    assert [(p.label, p.split, p.metadata["category"]) for p in found] == [
        (NO_LOGO, "train", "Fruit"),
        ("God-Morgon", "train", "Packages"),
        ("Arla", "train", "Packages"),
    ]


@pytest.mark.parametrize(
    ("product", "brand"),
    [("Arla-Sour-Milk", "Arla"), ("God-Morgon-Juice", "God-Morgon"), ("God-Morgonish", "God"), ("Oatly", "Oatly")],
)
def test_a_brand_is_the_first_word_or_a_name_of_two(product: str, brand: str) -> None:
    assert brand_of(product, ("God-Morgon",)) == brand
