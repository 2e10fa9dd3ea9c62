"""Brand photos, in the layouts in which the data sets are distributed."""

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from training.data.photos import NO_LOGO, SPLITS, TEST, TRAIN, VAL, Photo, split_named
from training.data.tables import columns_missing, lines_of, rows
from training.data.walk import LeftOut, Linked, Listed, folders_in, left_out, text_of, unwanted, walk
from training.errors import DataError
from training.recipes.sources import FlickrLogosSource, FoldersSource, GrocerySource, OpenImagesSource

#: Why the folder of a class is named among what is left out.
NO_PHOTOS: Final = "folder of a class without photos"
#: Folders that hold photos without a brand, or those of a brand of that name: the recipe must say which.
_UNCLEAR: Final = frozenset({
    "nologo", "nologos", "none", "nobrand", "nobrands", "nothing", "null", "negative", "negatives", "background",
    "backgrounds", "unknown", "other", "others", "unbranded", "neg", "negativesamples", "notalogo", "empty", "misc",
    "without", "withoutlogo", "withoutbrand",
})  # fmt: skip


def _split_folders(path: Path) -> Iterator[tuple[str | None, Path] | LeftOut]:
    """The split folders, in any case, or without any the folder itself.

    Yields:
        What lies beside them, then (split, folder) in the order of SPLITS.

    Raises:
        DataError: No such folder.
    """
    splits = {folder: split for folder in folders_in(path) if (split := split_named(folder.name))}
    if not splits:
        yield None, path
        return
    for found in sorted(path.iterdir()):
        if found not in splits:
            yield left_out(found, "" if unwanted(found) else "beside the split folders")
    for folder, split in sorted(splits.items(), key=lambda item: SPLITS.index(item[1])):
        yield split, folder


def _placed(path: Path) -> Iterator[tuple[str | None, Path, tuple[str, ...]] | LeftOut | Linked]:
    """Every photo below a folder of classes, in split folders or not.

    Yields:
        (split, file, parts of its path below the split's folder), and what is left out.
    """
    for part in _split_folders(path):
        if isinstance(part, LeftOut):
            yield part
            continue
        split, folder = part
        empty = {child.name: child for child in folders_in(folder)}
        for found in walk(folder, path):
            inner = found.relative_to(folder).parts if isinstance(found, Path) else ()
            if not isinstance(found, Path):
                yield found
            elif len(inner) == 1:
                yield LeftOut(found, "in no folder of a class")
            else:
                empty.pop(inner[0], None)
                yield split, found, inner
        yield from (LeftOut(child, NO_PHOTOS) for child in empty.values())


def _plain(name: str) -> str:
    """A name without case, spaces and punctuation."""
    return "".join(char for char in unicodedata.normalize("NFKC", name).casefold() if char.isalnum())


def label_of(folder: Path) -> str:
    """The brand that a folder is named by: NFC.

    Raises:
        DataError: The name is not UTF-8, or has control characters, line breaks, or spaces at its ends.
    """
    name = unicodedata.normalize("NFC", folder.name)
    if name != name.strip() or any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in name):
        why = "it is not UTF-8, or has control characters, or spaces at its ends"
        raise DataError(f"{str(folder)!r} cannot be the name of a brand: {why}; rename the folder")
    return name


def folders(source: FoldersSource) -> Iterator[Listed]:
    """One folder per brand, in split folders or not.

    Yields:
        Photos, sorted by path, and what is left out.

    Raises:
        DataError: No such folder, one whose name cannot be a label, or one that may be a brand or not.
    """
    without = {_plain(name) for name in source.no_logo}
    for found in _placed(source.path):
        if isinstance(found, LeftOut | Linked):
            yield found
            continue
        split, path, inner = found
        label = label_of(Path(inner[0]))
        if _plain(label) in without:
            label = NO_LOGO
        elif _plain(label) in _UNCLEAR:
            names = json.dumps([*source.no_logo, label], ensure_ascii=False)
            raise DataError(
                f"does the folder {label} in {source.path} hold photos without a brand? Then name it in no_logo of this"
                f" source, such as --set 'data.sources.0.no_logo={names}'; if it is a brand, call the folder otherwise"
            )
        yield Photo(text_of(path.relative_to(source.path)), str(path), source.path.name, label, split=split)


#: FlickrLogos-32's list files, and the split of each.
_FLICKR_LISTS = {
    "trainset.relpaths.txt": TRAIN,
    "valset-logosonly.relpaths.txt": VAL,
    "valset-nologos.relpaths.txt": VAL,
    "testset.relpaths.txt": TEST,
}


def flickr_logos(source: FlickrLogosSource) -> Iterator[Photo]:
    """FlickrLogos-32: paths like classes/jpg/adidas/1.jpg and classes/jpg/no-logo/1.jpg, listed by split.

    A share of val's no-logo photos moves to training, which otherwise has none.

    Yields:
        Photos, in the order of the lists.

    Raises:
        DataError: A list file is missing, or a line is not such a path.
    """
    for name, split in _FLICKR_LISTS.items():
        listing = source.path / name
        if not listing.is_file():
            raise DataError(f"no list {listing}")
        lines = [line.strip() for line in lines_of(listing) if line.strip()]
        moved = int(len(lines) * source.no_logo_to_train) if "nologos" in name else 0
        for index, line in enumerate(lines):
            parts = Path(line.replace("\\", "/")).parts
            if len(parts) < 2:
                raise DataError(f"{listing}, line {index + 1}: {line} has no class folder")
            label = parts[-2].lower()
            yield Photo(
                id=f"flickrlogos32/{line}",
                uri=str(source.path.joinpath(*parts)),
                source="flickrlogos32",
                label=NO_LOGO if label in {"no-logo", "no_logo"} else label,
                split=TRAIN if index < moved else split,
            )


def open_images(source: OpenImagesSource) -> Iterator[Photo]:
    """Open Images: one crop per box of the wanted classes; boxes around groups of objects are left out.

    Crops of one photo are a group, so that they stay in one split.

    Yields:
        Photos with a box, in the order of the list.

    Raises:
        DataError: A class is not in the list of classes, or a column is missing.
    """
    wanted = {**source.brands, **dict.fromkeys(source.no_logo, NO_LOGO)}
    names = dict(class_names(source.classes))
    unknown = sorted(set(wanted) - set(names.values()))
    if unknown:
        raise DataError(f"{source.classes} has no class {', '.join(unknown)}")
    for number, row in enumerate(rows(source.boxes), 2):
        columns_missing(source.boxes, row, "ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
        label = wanted.get(names.get(row["LabelName"], ""))
        if label is None or row.get("IsGroupOf") == "1":
            continue
        left, right, top, bottom = (float(row[name]) for name in ("XMin", "XMax", "YMin", "YMax"))
        if not (left < right and top < bottom):
            raise DataError(f"{source.boxes}, line {number}: the box is empty")
        across, down = (right - left) * source.margin, (bottom - top) * source.margin
        box = (max(0.0, left - across), max(0.0, top - down), min(1.0, right + across), min(1.0, bottom + down))
        yield Photo(
            id=f"openimages/{row['ImageID']}/{number}",
            uri=str(source.photos / f"{row['ImageID']}.jpg"),
            source="openimages",
            label=label,
            group=row["ImageID"],
            box=(round(box[0], 6), round(box[1], 6), round(box[2], 6), round(box[3], 6)),
        )


def class_names(path: Path) -> Iterator[tuple[str, str]]:
    """(machine id, display name) of class-descriptions-boxable.csv, which has a header in some releases only.

    Yields:
        Pairs.

    Raises:
        DataError: No such file.
    """
    if not path.is_file():
        raise DataError(f"no classes at {path}")
    for line in lines_of(path):
        machine, comma, display = line.partition(",")
        if comma and machine != "LabelName":
            yield machine.strip(), display.strip().strip('"')


def brand_of(product: str, two_words: tuple[str, ...]) -> str:
    """The brand that a product's folder name begins with: one of `two_words`, or the first word."""
    return next((name for name in two_words if f"{product}-".startswith(f"{name}-")), product.partition("-")[0])


def grocery(source: GrocerySource) -> Iterator[Listed]:
    """GroceryStore: product folders of the packages category begin with their brand; other categories show none.

    Yields:
        Photos, sorted by path, and what is left out; the category is metadata.

    Raises:
        DataError: No packages folder, or one whose name cannot be a label.
    """
    for part in _split_folders(source.path):
        if not isinstance(part, LeftOut) and not (part[1] / source.packages).is_dir():
            raise DataError(f"no folder {part[1] / source.packages}")
    for found in _placed(source.path):
        if isinstance(found, LeftOut | Linked):
            yield found
            continue
        split, path, inner = found
        branded = inner[0] == source.packages
        if branded and len(inner) == 2:
            yield LeftOut(path, "in no folder of a product")
            continue
        yield Photo(
            id=text_of(path.relative_to(source.path)),
            uri=str(path),
            source=source.path.name,
            label=brand_of(label_of(path.parent), source.two_words) if branded else NO_LOGO,
            split=split,
            metadata={"category": text_of(inner[0])},
        )
