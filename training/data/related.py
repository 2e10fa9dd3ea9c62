"""What a test photo shares with photos that a model was trained on, though they are not copies of each other.

Such a photo is easier than a stranger's: a figure on it flatters. Splits keep apart what their rules find; this looks
with looser rules, which also hold for splits that came with the data.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Final

import numpy as np

from training.data.photos import Photo
from training.data.scenes import numbered

#: Difference hashes this close are of one scene, as a rule; a copy differs in 4 bits or fewer.
_ALIKE_BITS: Final = 8
#: Between two photos of one moment.
_MOMENT_S: Final = 60.0
#: Between the numbers in the names of two photos of one series: some of a burst are deleted.
_SERIES_GAP: Final = 3
#: Columns of lists that say who took a photo, or on what occasion; without case and punctuation.
_COLUMNS: Final = frozenset({
    "account", "accountid", "album", "albumid", "author", "authorid", "burst", "event", "group", "groupid", "owner",
    "ownerid", "photographer", "photographerid", "scene", "sceneid", "series", "session", "sessionid", "uploader",
    "uploaderid", "user", "userid", "username",
})  # fmt: skip
_AT_ONCE: Final = 256
LOOKS, MOMENT, SERIES, PEOPLE = "looks", "moment", "series", "uploader"


def related(photos: Sequence[Photo], trained_on: Sequence[Photo]) -> list[tuple[str, ...]]:
    """What each photo shares with any of those that were trained on; nothing for photos drawn by code.

    LOOKS: a difference hash within 8 of 64 bits. MOMENT: of one source, and taken within a minute. SERIES: in one
    folder, under names that differ in one number, by at most 3. PEOPLE: of one source, and of one group, or with an
    equal value in a column such as `uploader` or `album`.
    """
    known = [photo for photo in trained_on if not photo.drawn]
    looks = _alike(photos, known)
    moments = _near(known, lambda photo: (photo.source, photo.taken), _MOMENT_S)
    series = _near(known, numbered, _SERIES_GAP)
    people = {key for photo in known for key in _people(photo)}
    return [
        ()
        if photo.drawn
        else tuple(
            name
            for name, shared in (
                (LOOKS, looks[place]),
                (MOMENT, moments(photo)),
                (SERIES, series(photo)),
                (PEOPLE, not people.isdisjoint(_people(photo))),
            )
            if shared
        )
        for place, photo in enumerate(photos)
    ]


def _alike(photos: Sequence[Photo], known: Sequence[Photo]) -> list[bool]:
    """0 is the hash of every flat picture, and equals nothing."""
    others = np.array([photo.dhash for photo in known if photo.dhash], np.uint64)
    own = np.array([photo.dhash for photo in photos], np.uint64)
    found: list[bool] = []
    for start in range(0, len(own) if len(others) else 0, _AT_ONCE):
        part = own[start : start + _AT_ONCE]
        near = (np.bitwise_count(part[:, None] ^ others[None]) <= _ALIKE_BITS).any(1)
        found += (near & (part != 0)).tolist()
    return found or [False] * len(own)


def _near(
    known: Sequence[Photo], place_of: Callable[[Photo], tuple[Hashable, float | None]], gap: float
) -> Callable[[Photo], bool]:
    """Whether a photo has a neighbour: an equal key, and a value that is `gap` away at most."""
    values: dict[Hashable, list[float]] = defaultdict(list)
    for key, value in map(place_of, known):
        if key is not None and value is not None:
            values[key].append(value)
    for ordered in values.values():
        ordered.sort()

    def near(photo: Photo) -> bool:
        key, value = place_of(photo)
        ordered = values.get(key, [])
        return value is not None and bisect_left(ordered, value - gap) < bisect_right(ordered, value + gap)

    return near


def _people(photo: Photo) -> set[Hashable]:
    named = {(photo.source, _plain(name), value) for name, value in photo.metadata.items() if _plain(name) in _COLUMNS}
    return named | ({(photo.source, photo.group)} if photo.group else set())


def _plain(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())
