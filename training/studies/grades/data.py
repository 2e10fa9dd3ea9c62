"""Rated photos with metadata, the encoding of its columns, fitted on training photos only, and data made by code."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_classif
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from training.data.photos import LEVELS, Photo
from training.data.tables import columns_missing, rows
from training.errors import DataError
from training.recipes.sources import RatingsSource
from training.studies.grades.extracted import FEATURES
from training.studies.rated import write_photo

LIST: Final = "ratings.csv"
IMAGE, RATING, USER, SPLIT = "image", "rating", "user", "split"
LEAST_FEATURES: Final = 20
#: The scale of the study's own ratings.
AS_LEVELS: Final = (float(LEVELS[0]), float(LEVELS[-1]))
#: Share of the filled cells of a column that must be numbers, or times, for it to be a column of those.
_MOSTLY: Final = 0.95
_MISSING: Final = "(missing)"
Row = Mapping[str, str]
#: Of data made by code: photos, users, shares of the levels (most are middling, as people rate), and of empty cells.
COUNT, _USERS = 600, 60
_SHARES: Final = (0.08, 0.16, 0.44, 0.21, 0.11)
_CITIES: Final = ("Delhi", "Mumbai", "Pune", "Jaipur", "Bengaluru")
_PLACES: Final = ("cafe", "restaurant", "salon", "grocery", "pub", "bakery")
_DEVICES: Final = ("A1", "A2", "B1", "C7", "C9", "D3")
_EMPTY: Final = 0.06


@dataclass(frozen=True, slots=True)
class Listing:
    """How a list of rated photos is read."""

    #: Column of the ratings, and its worst and best value; in between they are rounded to levels 1 to 5.
    rating: str = RATING
    scale: tuple[float, float] = AS_LEVELS
    #: Whether the photos of one user stay together, where the list has a column user.
    grouped: bool = True
    #: Whether the photos' own metadata stand beside the list's columns.
    extracted: bool = True


def source_of(data: Path, listing: Listing) -> tuple[RatingsSource, tuple[str, ...]]:
    """The list behind a path, and the names of the metadata features: the files' own, then the list's columns.

    Args:
        data: A CSV or Parquet file with columns of photos and ratings, or a folder with ratings.csv in it.
        listing: How to read it.

    Raises:
        DataError: Fewer than 20 features, a rating outside the scale, or on levels one that is not of 1..5.
    """
    path = data / LIST if data.is_dir() else data
    header: list[str] = []
    for number, row in enumerate(rows(path), 2):
        if not header:
            columns_missing(path, row, IMAGE, listing.rating)
            header = list(row)
        if listing.scale == AS_LEVELS and not _is_level(row[listing.rating]):
            raise DataError(f"{path}, line {number}: rating {row[listing.rating]!r} is not one of 1, 2, 3, 4, 5")
    brought = tuple(name for name in header if name not in {IMAGE, listing.rating, USER, SPLIT})
    features = (*(name for name in FEATURES if listing.extracted and name not in brought), *brought)
    if len(features) < LEAST_FEATURES:
        raise DataError(f"{path} has {len(features)} metadata features; the study has {LEAST_FEATURES} or more")
    group = USER if listing.grouped and USER in header else None
    return RatingsSource(kind="ratings", path=path, rating=listing.rating, scale=listing.scale, group=group), features


def _is_level(text: str) -> bool:
    """Whether a rating is one of the levels; tables of other programs write 4.0 for 4."""
    try:
        return float(text) in LEVELS
    except ValueError:
        return False


def cells(photos: Sequence[Photo], features: Sequence[str]) -> list[Row]:
    """The metadata of photos; missing values are empty text."""
    return [{name: photo.metadata.get(name, "") for name in features} for photo in photos]


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.combine(date(2000, 1, 1), time.fromisoformat(text))


_PARTS: Final[dict[str, Callable[[datetime], float]]] = {
    "year": lambda moment: moment.year,
    "month": lambda moment: moment.month,
    "weekday": lambda moment: moment.weekday(),
    "hour": lambda moment: moment.hour + moment.minute / 60,
}


def _value(read: Callable[[str], Any], text: str) -> Any:  # noqa: ANN401 - a number or a moment
    """What `read` makes of a text; None where it is neither a number nor a moment."""
    try:
        return read(text)
    except ValueError:
        return None


def _mostly(read: Callable[[str], object], texts: Sequence[str]) -> bool:
    return bool(texts) and sum(_value(read, text) is not None for text in texts) / len(texts) >= _MOSTLY


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns by type, as inferred from training rows."""

    numbers: tuple[str, ...]
    moments: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of `matrix`."""
        parts = tuple(f"{name} {part}" for name in self.moments for part in _PARTS)
        return (*self.numbers, *parts, *self.texts)

    @property
    def numeric(self) -> int:
        """How many of them are numeric; they come first."""
        return len(self.names) - len(self.texts)

    def matrix(self, table: Sequence[Row]) -> np.ndarray:
        """Objects [N, names]: numbers, nan where one is missing or invalid, then texts."""
        lines = []
        for row in table:
            line: list[Any] = [_value(float, row[name]) for name in self.numbers]
            for name in self.moments:
                moment = _value(_moment, row[name])
                line += [moment and part(moment) for part in _PARTS.values()]
            line = [np.nan if number is None else number for number in line]
            lines.append(line + [row[name] or _MISSING for name in self.texts])
        return np.array(lines, dtype=object).reshape(len(table), len(self.names))


def columns_of(train: Sequence[Row]) -> Columns:
    """Infers the type of each column, number, date or time, or text, from training rows."""
    filled = {name: [row[name] for row in train if row[name]] for name in train[0]}
    numbers = tuple(name for name, texts in filled.items() if _mostly(float, texts))
    moments = tuple(name for name, texts in filled.items() if name not in numbers and _mostly(_moment, texts))
    return Columns(numbers, moments, tuple(name for name in filled if name not in {*numbers, *moments}))


def encoding(columns: Columns) -> ColumnTransformer:
    """Mean imputation of numbers, ordinal encoding of texts; texts that training lacks get a code of their own."""
    numbers = list(range(columns.numeric))
    texts = list(range(columns.numeric, len(columns.names)))
    label = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return ColumnTransformer(
        [("numbers", SimpleImputer(strategy="mean", keep_empty_features=True), numbers), ("texts", label, texts)]
    )


def preparation(columns: Columns, selected: int) -> Pipeline:
    """Encoding, scaling, and selection of the features with the highest univariate F score."""
    count: int | str = selected if selected < len(columns.names) else "all"
    return make_pipeline(encoding(columns), VarianceThreshold(), StandardScaler(), SelectKBest(f_classif, k=count))


def make(folder: Path, seed: int, count: int = COUNT) -> None:
    """Writes photos/*.jpg and ratings.csv with 22 metadata features, a few cells of them empty."""
    rng = np.random.default_rng(seed)
    skill = rng.normal(0, 0.7, _USERS)
    lines = []
    for number in range(count):
        user = int(rng.integers(_USERS))
        drawn = rng.choice(5, p=_SHARES) + 1 + skill[user] * rng.random()
        rating = int(np.clip(np.round(drawn), 1, 5))
        name = f"photos/{number:05d}.jpg"
        image = write_photo(folder / name, rng, rating)
        kilobytes = (folder / name).stat().st_size / 1024
        light = float(np.asarray(image.convert("L")).mean())
        facts = {**_context(rng, user), "file_kb": f"{kilobytes:.2f}", "mean_brightness": f"{light:.1f}"}
        facts = {key: "" if rng.random() < _EMPTY else value for key, value in facts.items()}
        lines.append({IMAGE: name, RATING: str(rating), USER: f"user-{user}", **facts})
    with (folder / LIST).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _context(rng: np.random.Generator, user: int) -> dict[str, str]:
    """Twenty features that a photo's upload brings along."""
    taken = datetime(2018, 1, 1) + timedelta(minutes=int(rng.integers(525_600)))  # noqa: DTZ001 - a camera's clock
    return {
        "taken_at": taken.isoformat(),
        "upload_time": (taken + timedelta(minutes=int(rng.integers(600)))).time().isoformat("minutes"),
        "upload_delay_min": str(int(rng.integers(600))),
        "city": str(rng.choice(_CITIES)),
        "locality": f"locality-{rng.integers(25)}",
        "latitude": f"{28 + rng.normal(0, 2):.4f}",
        "longitude": f"{77 + rng.normal(0, 2):.4f}",
        "place_id": f"place-{rng.integers(90)}",
        "place_category": str(rng.choice(_PLACES)),
        "place_rating": f"{rng.uniform(2, 5):.1f}",
        "place_photos": str(int(rng.integers(1, 400))),
        "device": str(rng.choice(_DEVICES)),
        "app_version": f"{rng.integers(3, 7)}.{rng.integers(10)}",
        "orientation": str(rng.choice(("portrait", "landscape"))),
        "flash": str(rng.choice(("on", "off"))),
        "caption_length": str(int(rng.integers(120))),
        "transaction_value": f"{rng.gamma(2, 400):.0f}",
        "cashback": f"{rng.gamma(2, 40):.0f}",
        "user_photos": str(int(user * 7 % 90 + rng.integers(5))),
        "user_followers": str(int(user * 31 % 700)),
    }
