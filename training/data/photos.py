"""A photo of a data set: where it is, its label and its split.

Nothing here imports torch, so that commands that only list photos start at once.
"""

from dataclasses import dataclass, field
from typing import Any, Final

#: Label of a photo without a known brand.
NO_LOGO: Final = "no_logo"
TRAIN, VAL, TEST, FOREIGN = "train", "val", "test", "foreign"
#: Splits that photos are divided into; `foreign` photos come from elsewhere and are only reported on.
SPLITS: Final = (TRAIN, VAL, TEST)
LEVELS: Final = (1, 2, 3, 4, 5)
#: What the URIs of photos drawn by code begin with.
SCENE, COMPOSED = "scene:", "composed:"
#: How data sets call the splits, in lower case.
_SPLIT_NAMES: Final = {
    **dict.fromkeys(("train", "training", "trainset"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "valset"), VAL),
    **dict.fromkeys(("test", "testing", "testset"), TEST),
}


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
    #: The difference hash (`inspect.difference_hash`); 0 for photos drawn by code.
    dhash: int = 0
    #: `Decoded.taken`.
    taken: float | None = None
    #: Seed and severity 0..4 of damage done by code.
    damage: tuple[int, float] | None = None
    #: Whether code cuts its middle out and puts it on white, in a shape of the seed of its `damage`.
    on_white: bool = False
    #: Properties that a report slices by.
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def drawn(self) -> bool:
        """Whether code drew the photo: it has no scene, no time and no uploader."""
        return self.uri.startswith((SCENE, COMPOSED))

    def as_json(self) -> dict[str, Any]:
        """Plain values without the empty ones."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value or (value == 0.0 and value is not False)}


def photo_from_json(values: dict[str, Any]) -> Photo:
    """The photo that `as_json` wrote."""
    tuples = {name: tuple(values[name]) for name in ("votes", "box", "damage") if values.get(name) is not None}
    return Photo(**{**values, **tuples})


def split_named(name: str) -> str | None:
    """The split that a folder or a cell names, in any case: `Train`, `valid`, `testing`; None for other names."""
    return _SPLIT_NAMES.get(name.strip().lower())
