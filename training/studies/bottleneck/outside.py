"""What a head says of pictures from elsewhere, some of which show none of its classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from training.data.inspect import inspect_all
from training.data.photos import Photo, photo_files
from training.data.pixels import stack
from training.errors import DataError
from training.heads.features import Backbone, features_of
from training.statistics import Floats

_TOP: Final = 5
#: Share of val photos whose highest probability is below the limit of a flag.
_FLAGGED_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Guess:
    """The most probable classes of a picture, best first, and whether the best is suspiciously low."""

    picture: str
    classes: tuple[tuple[str, float], ...]
    flagged: bool

    @property
    def text(self) -> str:
        """For a table."""
        return ", ".join(f"{name} {share:.2f}" for name, share in self.classes)


def flag_limit(shares: Floats) -> float:
    """The highest probability that 95 % of val photos reach: below it, a picture is unlike what the head knows."""
    return float(np.quantile(shares.max(1), _FLAGGED_SHARE))


@dataclass(frozen=True, slots=True)
class Reader:
    """A head on its backbone, with the limit of its flag."""

    source: Backbone
    #: A fitted classifier.
    fitted: Any
    labels: Sequence[str]
    limit: float


def guesses(reader: Reader, folder: Path) -> list[Guess]:
    """The five most probable classes of every readable picture in a folder, in order of their names.

    Raises:
        DataError: No readable picture there.
    """
    files = photo_files(folder)
    found, _ = inspect_all([Photo(path.name, str(path), "outside") for path in files], 1)
    if not found:
        raise DataError(f"no readable pictures in {folder}")
    made = []
    for item in found:
        features = features_of(reader.source, stack([item.photo], reader.source.geometry, 1))
        shares = reader.fitted.predict_proba(features)[0]
        best = np.argsort(-shares, kind="stable")[:_TOP]
        named = tuple((reader.labels[int(reader.fitted.classes_[index])], float(shares[index])) for index in best)
        made.append(Guess(item.photo.id, named, flagged=named[0][1] < reader.limit))
    return made
