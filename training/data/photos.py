"""One listed photo: where it is, what it shows, and which split it belongs to. Pixels come from `decode`.

Nothing here needs torch, so that what only lists photos starts at once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from training.data.formats import image_formats
from training.errors import DataError

#: Label of a photo without a known brand.
NO_LOGO: Final = "no_logo"
TRAIN, VAL, TEST, FOREIGN = "train", "val", "test", "foreign"
#: Splits that photos are divided into; `foreign` photos come from elsewhere and are only reported on.
SPLITS: Final = (TRAIN, VAL, TEST)
LEVELS: Final = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo as a source lists it; splitting and hashing fill in what the source does not know."""

    #: Unique within a run, and stable: the path below its source, or the list's own id.
    id: str
    #: A path, `file:`, `http:` or `https:`; or `scene:` and `composed:` for what code draws.
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
    #: Of the file's bytes; of the URI and the code that draws it where there is no file.
    sha256: str = ""
    #: Left, top, right, bottom as shares of the photo's sides: what of it is shown.
    box: tuple[float, float, float, float] | None = None
    #: Seed and severity 0..4 of damage done by code.
    damage: tuple[int, float] | None = None
    #: What a report may slice by.
    metadata: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values without the empty ones."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value or value == 0.0}


def photo_from_json(values: dict[str, Any]) -> Photo:
    """The photo that `as_json` wrote."""
    tuples = {name: tuple(values[name]) for name in ("votes", "box", "damage") if values.get(name) is not None}
    return Photo(**{**values, **tuples})


def photo_files(folder: Path) -> list[Path]:
    """Every file below a folder that is named like a photo, sorted.

    Also those in formats that the service does not read: whoever looks at them reports them as unreadable.

    Raises:
        DataError: No such folder.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}")
    suffixes = image_formats().suffixes
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
