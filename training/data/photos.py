"""A photo of a data set: where it is, its label and its split; and the image formats that data sets are made of.

Nothing here imports torch, so that commands that only list photos start at once.
"""

import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from training.errors import DataError

#: Label of a photo without a known brand.
NO_LOGO: Final = "no_logo"
TRAIN, VAL, TEST, FOREIGN = "train", "val", "test", "foreign"
#: Splits that photos are divided into; `foreign` photos come from elsewhere and are only reported on.
SPLITS: Final = (TRAIN, VAL, TEST)
LEVELS: Final = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo as a source lists it; inspection and splitting fill in what the source does not know."""

    #: Unique within a run, and stable: the path below its source, or the list's own id.
    id: str
    #: A path, `file:`, `http:` or `https:`; `scene:` and `composed:` for photos drawn by code.
    uri: str
    source: str
    #: The brand, or NO_LOGO; None for rated photos.
    label: str | None = None
    #: 1..5, fractions allowed; None for brand photos.
    rating: float | None = None
    #: Shares of the votes for levels 1..5, where the source has them.
    votes: tuple[float, ...] | None = None
    split: str | None = None
    #: Photos of one group stay in one split.
    group: str = ""
    #: Of the file's bytes; of a drawn photo, of its URI and the code that draws it.
    sha256: str = ""
    #: The part of the photo that is used: left, top, right, bottom as shares of its sides.
    box: tuple[float, float, float, float] | None = None
    #: Seed and severity 0..4 of damage done by code.
    damage: tuple[int, float] | None = None
    #: Properties that a report slices by.
    metadata: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values without the empty ones."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value or value == 0.0}


def photo_from_json(values: dict[str, Any]) -> Photo:
    """The photo that `as_json` wrote."""
    tuples = {name: tuple(values[name]) for name in ("votes", "box", "damage") if values.get(name) is not None}
    return Photo(**{**values, **tuples})


@cache
def image_formats() -> tuple[tuple[str, ...], frozenset[str]]:
    """Pillow's names of the formats that every service reads, and all suffixes of photos, in lower case.

    Photos in other formats are not trained on, since the service will not see them. The service publishes its formats
    (`photo-tagger schemas`); this package has a copy, which a test keeps equal.
    """
    published = json.loads(files("training.data").joinpath("image-formats.json").read_bytes())
    suffixes = [suffix for each in published["formats"] for suffix in each["suffixes"]]
    read = tuple(each["name"] for each in published["formats"] if each["by_default"])
    return read, frozenset([*suffixes, *published["unread_suffixes"]])


def photo_files(folder: Path) -> list[Path]:
    """Every file below a folder that has the suffix of a photo, sorted.

    Formats that the service does not read are included, so that they are reported as unreadable.

    Raises:
        DataError: No such folder.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}")
    _, suffixes = image_formats()
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
