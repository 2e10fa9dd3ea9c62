"""Brand photos, in the layouts in which the data sets are distributed."""

from collections.abc import Iterator
from pathlib import Path

from training.data.photos import NO_LOGO, SPLITS, TEST, TRAIN, VAL, Photo, photo_files
from training.data.tables import columns_missing, rows
from training.errors import DataError
from training.recipes.recipe import FlickrLogosSource, FoldersSource, GrocerySource, OpenImagesSource


def _splits(path: Path) -> list[tuple[str | None, Path]]:
    """(split, folder): the existing split folders, or the folder itself without a split.

    Raises:
        DataError: No such folder.
    """
    if not path.is_dir():
        raise DataError(f"no folder {path}")
    return [(split, path / split) for split in SPLITS if (path / split).is_dir()] or [(None, path)]


def folders(source: FoldersSource) -> Iterator[Photo]:
    """One folder per brand, in split folders or not.

    Yields:
        Photos, sorted by path.
    """
    for split, folder in _splits(source.path):
        for path in photo_files(folder):
            inner = path.relative_to(folder)
            if len(inner.parts) < 2:
                continue
            label = NO_LOGO if inner.parts[0] in source.no_logo else inner.parts[0]
            yield Photo(str(path.relative_to(source.path)), str(path), source.path.name, label, split=split)


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
        lines = [line.strip() for line in listing.read_text().splitlines() if line.strip()]
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
    for line in path.read_text(encoding="utf-8").splitlines():
        machine, comma, display = line.partition(",")
        if comma and machine != "LabelName":
            yield machine.strip(), display.strip().strip('"')


def brand_of(product: str, two_words: tuple[str, ...]) -> str:
    """The brand that a product's folder name begins with: one of `two_words`, or the first word."""
    return next((name for name in two_words if f"{product}-".startswith(f"{name}-")), product.partition("-")[0])


def grocery(source: GrocerySource) -> Iterator[Photo]:
    """GroceryStore: product folders of the packages category begin with their brand; other categories show none.

    Yields:
        Photos, sorted by path; the category is metadata.

    Raises:
        DataError: No packages folder.
    """
    for split, folder in _splits(source.path):
        if not (folder / source.packages).is_dir():
            raise DataError(f"no folder {folder / source.packages}")
        for path in photo_files(folder):
            inner = path.relative_to(folder).parts
            branded = inner[0] == source.packages and len(inner) > 2
            yield Photo(
                id=str(path.relative_to(source.path)),
                uri=str(path),
                source=source.path.name,
                label=brand_of(path.parent.name, source.two_words) if branded else NO_LOGO,
                split=split,
                metadata={"category": inner[0]},
            )
