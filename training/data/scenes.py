"""Which photos show one scene: what the folder, the time and the name of a file tell, and how alike photos look.

A perceptual hash finds copies of a photo; the next photo of a burst, or the other side of a package, it does not.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final

import numpy as np

from training.data.photos import Photo
from training.errors import DataError
from training.recipes.recipe import Splitting

#: Features float32 [N, F] of photos, in which photos of one scene are alike.
Features = Callable[[Sequence[Photo]], np.ndarray]
#: Indices of two photos.
Pair = tuple[int, int]
#: The last number of a file's name, with what is before and after it.
_NUMBERED: Final = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)
_AT_ONCE: Final = 1024


def buckets(keys: Iterable[Hashable | None]) -> Iterator[list[int]]:
    """Indices with equal keys, where there are several; None equals nothing."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        if key is not None:
            found[key].append(index)
    return (indices for indices in found.values() if len(indices) > 1)


def scene_pairs(found: Sequence[Photo], rules: Splitting, features: Features | None) -> set[Pair]:
    """Pairs of photos of one scene, as `rules.scenes` says; photos drawn by code have none.

    Args:
        found: The photos.
        rules: How to find scenes.
        features: What `look` compares.

    Raises:
        DataError: The rules compare looks, and there are no features.
    """
    listed = [n for n, item in enumerate(found) if not item.drawn]
    folders = [_folder(item) for item in found]
    pairs: set[Pair] = set()
    if "folder" in rules.scenes:
        pairs |= _close(listed, folders, [0.0] * len(found), 0.0)
    if "time" in rules.scenes:
        pairs |= _close(listed, folders, [item.taken for item in found], rules.gap_s)
    if "names" in rules.scenes:
        series, numbers = zip(*(numbered(item) for item in found), strict=True) if found else ((), ())
        pairs |= _close(listed, series, numbers, 1)
    if "look" in rules.scenes and listed:
        if features is None:
            raise DataError("scenes: look compares features of photos, which are not at hand here")
        pairs |= {
            (listed[left], listed[right])
            for left, right in _alike(features([found[index] for index in listed]), rules.alike)
        }
    return pairs


def _folder(photo: Photo) -> tuple[str, str]:
    return photo.source, photo.uri.rpartition("/")[0]


def numbered(photo: Photo) -> tuple[Hashable | None, int]:
    """The series that a file's name belongs to and its number there; no series for a name without a number."""
    parts = _NUMBERED.fullmatch(PurePosixPath(photo.uri).stem)
    return ((*_folder(photo), parts[1], parts[3]), int(parts[2])) if parts else (None, 0)


def _close(
    listed: Sequence[int], keys: Sequence[Hashable | None], values: Sequence[float | None], gap: float
) -> set[Pair]:
    """Pairs of neighbours, in the order of their values, with equal keys and values that are `gap` apart at most."""
    pairs: set[Pair] = set()
    for places in buckets(keys[index] if values[index] is not None else None for index in listed):
        found = ((values[listed[place]], listed[place]) for place in places)
        ordered = sorted((value, index) for value, index in found if value is not None)
        pairs |= {(min(a, b), max(a, b)) for (x, a), (y, b) in pairwise(ordered) if y - x <= gap}
    return pairs


def _alike(features: np.ndarray, least: float) -> Iterator[Pair]:
    """Pairs of rows [N, F] whose cosine, after each column is standardised, is at least `least`.

    Yields:
        Pairs of row numbers, the lower one first.
    """
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-6)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True) + 1e-6
    for start in range(0, len(scaled), _AT_ONCE):
        part = scaled[start : start + _AT_ONCE]
        rows, columns = np.nonzero(part @ scaled[start:].T >= least)
        yield from ((start + int(r), start + int(c)) for r, c in zip(rows, columns, strict=True) if r < c)
