"""Rated photos: any CSV, Parquet or Excel list, and the files of AVA, KonIQ-10k and SPAQ as they are distributed.

Every scale is converted to levels 1..5: the rating is the mean, votes are the distribution if a data set has one.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from statistics import fmean

from training.data.made import scene_uri
from training.data.photos import LEVELS, SPLITS, TEST, TRAIN, VAL, Photo, split_named
from training.data.read import scheme_of
from training.data.tables import column, columns_missing, lines_of, rows
from training.data.walk import Listed, text_of, walk
from training.errors import DataError
from training.recipes.sources import AvaSource, DamagedSource, KoniqSource, RatingsSource, SpaqSource, UnratedSource

_SCHEMES = frozenset({"http", "https", "file"})
#: Options of a source of ratings that name a column.
_COLUMNS = ("image", "rating", "group", "split")
_AVA_VOTES = 10
#: Columns of AVA.txt: index, image id, ten counts of votes, two semantic tags, challenge.
_AVA_COLUMNS = 2 + _AVA_VOTES + 3


def by_photo(source: RatingsSource) -> Iterator[Photo]:
    """The photos of a list. Several rows of one are ratings by several people: it has their mean, and what they share.

    Yields:
        Photos, in the order of the list.

    Raises:
        DataError: As `listed`, or two rows of a photo differ in split or group.
    """
    rated: dict[str, list[Photo]] = {}
    for photo in listed(source):
        rated.setdefault(photo.id, []).append(photo)
    for first, *more in rated.values():
        for option in ("split", "group"):
            values = {str(getattr(photo, option)) for photo in (first, *more)}
            if len(values) > 1:
                raise DataError(f"{source.path}: rows of {first.id} differ in {option}: {', '.join(sorted(values))}")
        shared = {
            name: value
            for name, value in first.metadata.items()
            if all(photo.metadata.get(name) == value for photo in more)
        }
        rating = round(fmean(photo.rating or 0.0 for photo in (first, *more)), 4)
        yield replace(first, rating=rating, metadata=shared)


def listed(source: RatingsSource) -> Iterator[Photo]:
    """The rows of a list as photos; other columns become metadata.

    Yields:
        Photos, in the order of the list.

    Raises:
        DataError: A column is missing, a rating is not a number within the scale, or a row names no photo.
    """
    if source.scale[0] == source.scale[1]:
        raise DataError(
            f"the scale of {source.path} has equal ends: {source.scale[0]:g} is the worst and the best rating"
        )
    folder = source.photos or source.path.parent
    for number, row in enumerate(rows(source.path), 2):
        known = _columns(source, row)
        cells = {name: row[at] for name, at in known.items()}
        place = f"{source.path}, line {number}"
        # Where columns are separated by semicolons, decimals are by commas.
        rating = _level(_number(cells["rating"].replace(",", "."), place), source.scale, place)
        image, named = cells["image"], cells.get("split", "")
        split, scheme = split_named(named), scheme_of(image)
        if named and split is None:
            raise DataError(f"{place}: split {named} is not one of {', '.join(SPLITS)}")
        if not image or (scheme not in _SCHEMES and "://" in image):
            raise DataError(f"{place}: {image!r} names no photo by path, file:, http: or https:")
        yield Photo(
            id=image,
            uri=image if scheme in _SCHEMES else str(_file(folder, image)),
            source=source.path.stem,
            rating=rating,
            split=split,
            group=cells.get("group", ""),
            metadata={name: value for name, value in row.items() if name not in known.values() and value},
        )


def begin_elsewhere(sources: Sequence[object], reason: str) -> str:
    """Where paths of lists begin, if a photo of one cannot be read since there is no such file."""
    lists = [number for number, source in enumerate(sources) if isinstance(source, RatingsSource)]
    if not lists or not reason.startswith(FileNotFoundError.__name__):
        return ""
    return f"; paths in a list begin in its folder, or in `photos`, such as --set data.sources.{lists[0]}.photos=photos"


def _columns(source: RatingsSource, row: dict[str, str]) -> dict[str, str]:
    """Options of the source that name columns, and the columns of the list.

    Raises:
        DataError: The list has no such column.
    """
    found: dict[str, str] = {}
    for option in _COLUMNS:
        name = getattr(source, option)
        try:
            found |= {} if name is None else {option: column(source.path, row, name)}
        except DataError as error:
            yours = next((other for other in row if other and other not in found.values()), "score")
            hint = quote(f"data.sources.0.{option}={json.dumps(yours, ensure_ascii=False)}")
            raise DataError(f"{error}; name yours, such as --set {hint}") from None
    return found


def _file(folder: Path, name: str) -> Path:
    """A listed file; lists of Windows have backslashes between folders."""
    path = folder / name
    return folder / name.replace("\\", "/") if "\\" in name and not path.exists() else path


def _level(rating: float, scale: tuple[float, float], place: str) -> float:
    """A rating as a level 1..5.

    Raises:
        DataError: It is outside the scale.
    """
    worst, best = scale
    if not min(scale) <= rating <= max(scale):
        raise DataError(
            f"{place}: rating {rating:g} is not within {worst:g}..{best:g}; give the column's worst and best rating as "
            "the source's `scale`, such as --set 'data.sources.0.scale=[0, 100]'"
        )
    return round(LEVELS[0] + (LEVELS[-1] - LEVELS[0]) * (rating - worst) / (best - worst), 4)


def _number(text: str, place: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{place}: {text!r} is not a number") from None


def mean(votes: tuple[float, ...]) -> float:
    """The mean level of shares of votes."""
    return round(sum(level * share for level, share in zip(LEVELS, votes, strict=True)), 4)


def _shares(counts: list[float], place: str) -> tuple[float, ...]:
    total = sum(counts)
    if total <= 0:
        raise DataError(f"{place}: nobody voted")
    return tuple(round(count / total, 6) for count in counts)


def ava(source: AvaSource) -> Iterator[Photo]:
    """AVA: votes 1 and 2 are level 1, and so on to 10. Photos are named by their id.

    Yields:
        Photos, in the order of AVA.txt; the challenge is metadata.

    Raises:
        DataError: No file, or a line has another number of columns.
    """
    if not source.path.is_file():
        raise DataError(f"no AVA.txt at {source.path}")
    for number, line in enumerate(lines_of(source.path), 1):
        if not line.strip():
            continue
        place, fields = f"{source.path}, line {number}", line.split()
        if len(fields) != _AVA_COLUMNS:
            raise DataError(f"{place}: {len(fields)} columns instead of {_AVA_COLUMNS}")
        counts = [_number(field, place) for field in fields[2 : 2 + _AVA_VOTES]]
        votes = _shares([counts[i] + counts[i + 1] for i in range(0, _AVA_VOTES, 2)], place)
        yield Photo(
            id=f"ava/{fields[1]}",
            uri=str(source.photos / f"{fields[1]}.jpg"),
            source="ava",
            rating=mean(votes),
            votes=votes,
            metadata={"challenge": fields[-1]},
        )


def koniq(source: KoniqSource) -> Iterator[Photo]:
    """KonIQ-10k: counts of votes c1..c5 are levels 1..5. A column `set` (training, validation, test) is the split.

    Yields:
        Photos, in the order of the file.
    """
    votes_of = [f"c{level}" for level in LEVELS]
    for number, row in enumerate(rows(source.path), 2):
        columns_missing(source.path, row, "image_name", *votes_of)
        place = f"{source.path}, line {number}"
        votes = _shares([_number(row[name], place) for name in votes_of], place)
        name = row["image_name"]
        yield Photo(
            id=f"koniq10k/{name}",
            uri=str(source.photos / name),
            source="koniq10k",
            rating=mean(votes),
            votes=votes,
            split=split_named(row.get("set", "")),
        )


def spaq(source: SpaqSource) -> Iterator[Photo]:
    """SPAQ: scores 0..100 are scaled to 1..5; the attributes are metadata.

    Yields:
        Photos, in the order of the sheet.

    Raises:
        DataError: A score outside 0..100.
    """
    for number, row in enumerate(rows(source.path), 2):
        columns_missing(source.path, row, "Image name", "MOS")
        name, score = row["Image name"], _number(row["MOS"], f"{source.path}, line {number}")
        if not 0 <= score <= 100:
            raise DataError(f"{source.path}, line {number}: MOS {score:g} is not within 0..100")
        yield Photo(
            id=f"spaq/{name}",
            uri=str(source.photos / name),
            source="spaq",
            rating=round(1 + score / 25, 4),
            metadata={name: value for name, value in row.items() if name not in {"Image name", "MOS"} and value},
        )


def undamaged(source: DamagedSource | UnratedSource) -> Iterator[Listed]:
    """The photos that get damage: a folder's, or drawn scenes, which come with a split.

    Yields:
        Photos, and what is left out.

    Raises:
        DataError: No such folder.
    """
    if source.path is None:
        counts = {TRAIN: source.scenes, VAL: source.scenes // 4, TEST: source.scenes // 4}
        for split, count in counts.items():
            for index in range(count):
                yield Photo(id=f"scenes/{split}/{index}", uri=scene_uri(split, index), source="scenes", split=split)
        return
    name = source.path.name
    for found in walk(source.path):
        if isinstance(found, Path):
            yield Photo(id=f"{name}/{text_of(found.relative_to(source.path))}", uri=str(found), source=name)
        else:
            yield found


def unrated(source: UnratedSource) -> Iterator[Listed]:
    """Photos that nobody rated, as of a damaged source, but all to train on: there is nothing to judge a model by.

    Yields:
        Photos, and what is left out.
    """
    for found in undamaged(source):
        if not isinstance(found, Photo):
            yield found
        elif found.split in {None, TRAIN}:
            yield replace(found, split=TRAIN)
