"""A small data set in the layout of Open Images, drawn by code, with everything that the true one has to stumble on."""

import csv
import json
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from training.studies.drawn import drawing, ground, jpeg
from training.studies.openimages.lists import BOXES, CLASSES, HIERARCHY, PHOTOS

_NAMES: Final = {"/m/0cdn1": "Hamburger", "/m/0l515": "Sandwich", "/m/07j7r": "Tree"}
_EACH: Final = 45
_SIZE: Final = (160, 120)
_BOX_COLUMNS: Final = (
    "ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax",
    "IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside",
)  # fmt: skip
_PHOTO_COLUMNS: Final = (
    "ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title",
    "OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation",
)  # fmt: skip
_HOST: Final = "https://photos.invalid"


def make(folder: Path, seed: int, host: str = _HOST, *, downloaded: bool = True) -> dict[str, bytes]:
    """Writes the lists, and the photos where `downloaded`; returns the photos' files by id.

    Photos `gone...` are one grey placeholder, `grey...` is a photo in black and white; the box of the last photo
    of each class is of a group.
    """
    rng = np.random.default_rng(seed)
    files: dict[str, bytes] = {}
    boxes: list[tuple[object, ...]] = []
    for kind, machine in enumerate(_NAMES):
        for number in range(_EACH):
            photo = f"{kind}{number:015x}"
            image, box = drawing(rng, kind, _SIZE)
            files[photo] = jpeg(image)
            boxes.append(_row(photo, machine, box, group=number == _EACH - 1))
    grey = ground(rng, _SIZE).convert("L")
    for photo in ("0gone0", "0gone1"):
        files[photo] = jpeg(Image.new("L", _SIZE, 230))
    files["0grey0"] = jpeg(grey)
    boxes += [_row(photo, "/m/0cdn1", (10, 10, 100, 100), group=False) for photo in ("0gone0", "0gone1", "0grey0")]
    _write(folder, boxes, files, host)
    if downloaded:
        (folder / "images").mkdir()
        for photo, body in files.items():
            (folder / "images" / f"{photo}.jpg").write_bytes(body)
    return files


def _row(photo: str, machine: str, box: tuple[float, ...], *, group: bool) -> tuple[object, ...]:
    left, top, right, bottom = (round(edge / side, 6) for edge, side in zip(box, _SIZE * 2, strict=True))
    return (photo, "xclick", machine, 1, left, right, top, bottom, 0, 0, int(group), 0, 0)


def _write(folder: Path, boxes: list[tuple[object, ...]], files: dict[str, bytes], host: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CLASSES).write_text("".join(f"{machine},{name}\n" for machine, name in _NAMES.items()))
    children = [{"LabelName": machine} for machine in list(_NAMES)[:2]]
    food = {"LabelName": "/m/02wbm", "Subcategory": children}
    (folder / HIERARCHY).write_text(
        json.dumps({"LabelName": "/m/0bl9f", "Subcategory": [{"LabelName": "/m/07j7r"}, food]})
    )
    photos = [(photo, "train", f"{host}/{photo}.jpg", *[""] * 8, "0.0") for photo in files]
    for name, columns, lines in ((BOXES, _BOX_COLUMNS, boxes), (PHOTOS, _PHOTO_COLUMNS, photos)):
        with (folder / name).open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(columns)
            writer.writerows(lines)
