"""Photos for the feed: two folders, or a rated list; and small ones made by code."""

import csv
from pathlib import Path
from typing import Final

import numpy as np

from training.data.tables import rows
from training.data.walk import photo_files
from training.errors import DataError
from training.recipes.sources import RatingsSource
from training.studies.rated import write_photo

GOOD, POOR = "good", "poor"
_LIST: Final = "ratings.csv"
_LEVELS: Final = {GOOD: 5, POOR: 1}
_MADE: Final = 240


def source_of(
    data: Path, scratch: Path, rating: str = "rating", scale: tuple[float, float] = (1.0, 5.0)
) -> RatingsSource:
    """The list of a folder's photos.

    Args:
        data: Two folders, a list, or a folder with ratings.csv in it.
        scratch: Takes the list of what two folders hold.
        rating: A list's column of ratings.
        scale: Its worst and best value.

    Raises:
        DataError: Neither two folders nor a list.
    """
    listed = data / _LIST if data.is_dir() else data
    if listed.is_file():
        group = "user" if "user" in next(rows(listed), {}) else None
        return RatingsSource(kind="ratings", path=listed, rating=rating, scale=scale, group=group)
    if all((data / name).is_dir() for name in _LEVELS):
        return RatingsSource(kind="ratings", path=_list_folders(data, scratch), photos=data)
    raise DataError(f"{data} holds neither {GOOD}/ and {POOR}/ nor {_LIST}")


def _list_folders(data: Path, scratch: Path) -> Path:
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / "feed.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "rating"))
        for name, level in _LEVELS.items():
            writer.writerows((str(photo.relative_to(data)), level) for photo in photo_files(data / name))
    return path


def make(folder: Path, seed: int, count: int = _MADE) -> None:
    """Writes good/ and poor/: drawings, hardly or badly damaged."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        name, rating = (GOOD, rng.choice((4, 5))) if number % 2 else (POOR, rng.choice((1, 2)))
        write_photo(folder / name / f"{number:05d}.jpg", rng, int(rating))
