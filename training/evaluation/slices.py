"""Slices: accuracy on parts of the test set, so that a good average cannot hide a part that is bad."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from training.evaluation.answers import Answers
from training.statistics import Flags, Interval, Texts, share, wilson

#: Parts with fewer photos are left out.
LEAST_PHOTOS: Final = 20
#: A property with more values than this is cut into parts if it is a number, and left out if it is a name.
_MOST_VALUES: Final = 12
_PARTS: Final = 4
#: A drop of accuracy that raises an alarm.
ALARM: Final = 0.10


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the photos."""

    property: str
    value: str
    photos: int
    rate: float
    interval: Interval
    #: Whether its whole interval is more than ALARM below the rate of all photos.
    alarming: bool


def parts(answers: Answers, right: Flags) -> list[Part]:
    """Accuracy on every part that the photos' properties define, largest parts of a property first."""
    overall = share(right)
    made = []
    for name, given in sorted(answers.slices.items()):
        values = binned(given)
        names, counts = np.unique(values, return_counts=True)
        for value, count in sorted(zip(names.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1]):
            if not value or count < LEAST_PHOTOS or count == len(answers):
                continue
            hits = int(right[values == value].sum())
            interval = wilson(hits, count)
            made.append(Part(name, value, count, hits / count, interval, interval.high < overall - ALARM))
    return made


def binned(values: Texts) -> Texts:
    """Values as few parts: numbers become quarters by rank, names stay; too many names become unknown."""
    known = np.unique(values[values != ""])
    if len(known) <= _MOST_VALUES:
        return values
    try:
        numbers = np.array([float(value) if value else np.nan for value in values.tolist()])
    except ValueError:
        return np.full(len(values), "")
    edges = np.nanquantile(numbers, np.linspace(0, 1, _PARTS + 1))
    which = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, _PARTS - 1)
    names = np.array([f"{edges[part]:.3g} to {edges[part + 1]:.3g}" for part in range(_PARTS)])
    return np.where(np.isnan(numbers), "", names[which])
