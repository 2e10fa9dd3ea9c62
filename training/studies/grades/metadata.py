"""The table of rated photos with their metadata, and how its columns become numbers: fitted on training photos only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
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
from training.recipes.recipe import RatingsSource

LIST: Final = "ratings.csv"
IMAGE, RATING, USER, SPLIT = "image", "rating", "user", "split"
LEAST_FEATURES: Final = 20
#: Share of the filled cells of a column that must be numbers, or times, for it to be one of those.
_MOSTLY: Final = 0.95
_MISSING: Final = "(missing)"
Row = Mapping[str, str]


def source_of(data: Path, *, grouped: bool) -> tuple[RatingsSource, tuple[str, ...]]:
    """The list behind a path, and the names of its metadata features.

    Args:
        data: A CSV or Parquet file with the columns image and rating, or a folder with ratings.csv in it.
        grouped: Whether the photos of one user stay together, where the list has a column user.

    Raises:
        DataError: Fewer than 20 features, or a rating that is no level 1..5.
    """
    path = data / LIST if data.is_dir() else data
    header: list[str] = []
    for number, row in enumerate(rows(path), 2):
        if not header:
            columns_missing(path, row, IMAGE, RATING)
            header = list(row)
        if not _is_level(row[RATING]):
            raise DataError(f"{path}, line {number}: rating {row[RATING]!r} is not one of 1, 2, 3, 4, 5")
    features = tuple(name for name in header if name not in {IMAGE, RATING, USER, SPLIT})
    if len(features) < LEAST_FEATURES:
        raise DataError(f"{path} has {len(features)} metadata features; the study has {LEAST_FEATURES} or more")
    group = USER if grouped and USER in header else None
    return RatingsSource(kind="ratings", path=path, group=group), features


def _is_level(text: str) -> bool:
    """Whether a rating is one of the levels; tables of other programs write 4.0 for 4."""
    try:
        return float(text) in LEVELS
    except ValueError:
        return False


def cells(photos: Sequence[Photo], features: Sequence[str]) -> list[Row]:
    """The metadata of photos; what is missing is empty text."""
    return [{name: photo.metadata.get(name, "") for name in features} for photo in photos]


def _number(text: str) -> float:
    return float(text)


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


def _share(read: Callable[[str], object], texts: Sequence[str]) -> float:
    good = 0
    for text in texts:
        try:
            read(text)
        except ValueError:
            continue
        good += 1
    return good / len(texts) if texts else 0.0


@dataclass(frozen=True, slots=True)
class Columns:
    """What each column holds, as training rows show it."""

    numbers: tuple[str, ...]
    moments: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns of `matrix`."""
        parts = tuple(f"{name} {part}" for name in self.moments for part in _PARTS)
        return (*self.numbers, *parts, *self.texts)

    @property
    def numeric(self) -> int:
        """How many of them are numbers; they come first."""
        return len(self.names) - len(self.texts)

    def matrix(self, table: Sequence[Row]) -> np.ndarray:
        """Objects [N, names]: numbers, nan where one is missing or is none, then texts."""
        lines = []
        for row in table:
            line: list[Any] = [_value(_number, row[name]) for name in self.numbers]
            for name in self.moments:
                moment = _value(_moment, row[name])
                line += [part(moment) if isinstance(moment, datetime) else np.nan for part in _PARTS.values()]
            lines.append(line + [row[name] or _MISSING for name in self.texts])
        return np.array(lines, dtype=object).reshape(len(table), len(self.names))


def _value(read: Callable[[str], Any], text: str) -> Any:  # noqa: ANN401 - a number or a moment
    try:
        return read(text)
    except ValueError:
        return np.nan


def columns_of(train: Sequence[Row]) -> Columns:
    """Numbers, dates and times, and texts, by what training rows hold."""
    kinds: dict[str, list[str]] = {"number": [], "moment": [], "text": []}
    for name in train[0]:
        filled = [row[name] for row in train if row[name]]
        number, moment = _share(_number, filled), _share(_moment, filled)
        kinds["number" if number >= _MOSTLY else "moment" if moment >= _MOSTLY else "text"].append(name)
    return Columns(tuple(kinds["number"]), tuple(kinds["moment"]), tuple(kinds["text"]))


def encoding(columns: Columns) -> ColumnTransformer:
    """Means for missing numbers, a label for each text; texts that training never showed get a label of their own."""
    numbers = list(range(columns.numeric))
    texts = list(range(columns.numeric, len(columns.names)))
    label = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return ColumnTransformer(
        [("numbers", SimpleImputer(strategy="mean", keep_empty_features=True), numbers), ("texts", label, texts)]
    )


def preparation(columns: Columns, selected: int) -> Pipeline:
    """Encoding, scaling, and the features that tell most of the rating by themselves."""
    count: int | str = selected if selected < len(columns.names) else "all"
    return make_pipeline(encoding(columns), VarianceThreshold(), StandardScaler(), SelectKBest(f_classif, k=count))
