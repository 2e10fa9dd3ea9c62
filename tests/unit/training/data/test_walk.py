"""A folder's photos are known by their bytes; links are followed; what is left out is counted by reason."""

import io
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.photo_folders import photo
from training.data.decode import _READERS
from training.data.formats import format_of, served
from training.data.walk import LeftOut, Linked, photo_files, walk
from training.errors import DataError


def encoded(name: str) -> bytes:
    stream = io.BytesIO()
    photo(1, 0).save(stream, name)
    return stream.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, body in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return folder


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in photo_files(folder)]


def reasons(folder: Path) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for found in walk(folder):
        counts.update({found.reason: found.files} if isinstance(found, LeftOut) else {})
    return dict(counts)


JPEG, PNG = encoded("JPEG"), encoded("PNG")


@pytest.mark.parametrize(
    ("kind", "name"),
    [(name, name) for name in ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF")]
    + [("JPEG2000", "JPEG 2000"), ("EPS", ""), ("PPM", ""), ("PDF", ""), ("ICO", "")],
)
def test_a_format_is_known_by_its_first_bytes(kind: str, name: str) -> None:
    assert format_of(encoded(kind)) == name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", ""),
        (b"RIFF\0\0\0\0WAVEfmt ", ""),
        (b"BMW, Opel, Saab\n", ""),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"\xff\x0a\0\0", "JPEG XL"),
        (b"", ""),
    ],
)
def test_containers_are_told_apart_by_what_they_hold(head: bytes, name: str) -> None:
    assert format_of(head) == name


def test_every_served_format_has_a_reader() -> None:
    assert served() == set(_READERS)


def test_photos_are_known_by_content_not_by_suffix(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a/IMG_1": JPEG,
            "a/IMG_2.JPG": JPEG,
            "a/IMG_3.txt": PNG,
            "a/IMG_4.png": JPEG,
            "a/no-photo.jpg": b"<html>",
            "a/scan": encoded("TIFF"),
            "a/notes.txt": b"buy milk",
            "a/Thumbs.db": b"\xd0\xcf\x11\xe0",
            "a/nothing": b"",
        },
    )
    # what only claims to be a photo is listed, to be reported as unreadable
    assert names(tmp_path) == [f"a/{name}" for name in (
        "IMG_1", "IMG_2.JPG", "IMG_3.txt", "IMG_4.png", "no-photo.jpg", "scan"
    )]  # fmt: skip
    assert reasons(tmp_path) == {"no photo": 2, "empty file": 1}


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "@eaDir", "__MACOSX", "$Recycle.Bin", ".git", "CVS"])
def test_hidden_folders_and_those_of_tools_are_left_out_at_any_depth(tmp_path: Path, hidden: str) -> None:
    for place in ("", "acme/", "acme/shop/"):
        write(tmp_path, {f"{place}{hidden}/1.jpg": JPEG, f"{place}{hidden}/1.jpg.d/thumb.jpg": JPEG})
    write(tmp_path, {"acme/1.jpg": JPEG, "acme/._1.jpg": JPEG, "acme/.DS_Store": b"\0"})
    kind = "hidden folder" if hidden.startswith(".") else "folder of a tool"
    assert names(tmp_path) == ["acme/1.jpg"]
    assert reasons(tmp_path) == {f"{kind}: {hidden}": 6, "hidden file": 2}


def test_a_hidden_folder_that_is_named_itself_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path / ".cache" / "@eaDir", {"acme/1.jpg": JPEG})
    assert names(folder) == ["acme/1.jpg"]


def test_linked_folders_and_files_are_followed_and_named_where_they_lead_out(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"acme/1.jpg": JPEG, "2.jpg": JPEG})
    folder = write(tmp_path / "photos", {"bolt/3.jpg": JPEG})
    (folder / "acme").symlink_to(outside / "acme")
    (folder / "bolt" / "2.jpg").symlink_to(outside / "2.jpg")
    (folder / "same").symlink_to("bolt")
    (folder / "bolt" / "gone.jpg").symlink_to("nowhere")
    (folder / "bolt" / "itself").symlink_to("itself")
    assert names(folder) == ["acme/1.jpg", "bolt/2.jpg", "bolt/3.jpg", "same/2.jpg", "same/3.jpg"]
    assert reasons(folder) == {"broken link": 4}
    linked = {found.path.relative_to(folder): found.target for found in walk(folder) if isinstance(found, Linked)}
    assert linked == {
        Path("acme"): outside / "acme",
        Path("bolt/2.jpg"): outside / "2.jpg",
        Path("same/2.jpg"): outside / "2.jpg",
    }


@pytest.mark.parametrize("target", [".", "..", "../..", "../../outside"])
def test_a_link_to_a_folder_that_holds_it_is_refused(tmp_path: Path, target: str) -> None:
    folder = write(tmp_path / "photos", {"acme/1.jpg": JPEG})
    write(tmp_path / "outside", {"2.jpg": JPEG})
    (tmp_path / "outside" / "back").symlink_to(folder)
    (folder / "acme" / "again").symlink_to(target)
    with pytest.raises(DataError, match="which holds it: remove the link"):
        photo_files(folder)


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    write(tmp_path, {"acme/1.jpg": JPEG})
    os.mkfifo(tmp_path / "acme" / "2.jpg")
    assert names(tmp_path) == ["acme/1.jpg"]
    assert reasons(tmp_path) == {"no file": 1}


def test_photos_are_in_the_order_of_their_paths(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(("b/1.jpg", "a.jpg", "a/2.jpg", "a/10.jpg", "a-b/1.jpg", "B/1.jpg"), JPEG))
    assert photo_files(tmp_path) == sorted(tmp_path.rglob("*.jpg"))


def test_a_picture_that_is_no_photo_of_pillows_is_read_by_nobody(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 20))
    image.save(tmp_path / "a.icns")
    image.save(tmp_path / "b.tga")
    assert names(tmp_path) == []
    assert reasons(tmp_path) == {"no photo": 2}
