"""Answers: what a model said about labelled photos, with everything that figures are computed from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from training.statistics import Flags, Floats, Ints, Texts, softmax


@dataclass(frozen=True, slots=True)
class Answers:
    """One row a photo."""

    ids: Texts
    #: [N, C], before the temperature.
    logits: Floats
    #: Class index: the brand, or the nearest level - 1.
    labels: Ints
    #: The label as a number: the class index again, or a rating 1..5 with its fraction.
    targets: Floats
    #: Photos of one group stay together in a bootstrap sample; "" stands alone.
    groups: Texts
    #: Name of a property: its value for each photo, "" where it is unknown.
    slices: Mapping[str, Texts] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def probabilities(self, temperature: float = 1.0) -> Floats:
        """[N, C]."""
        return softmax(self.logits, temperature)

    def take(self, which: Ints | Flags) -> Self:
        """The rows at some indices, or where a mask holds."""
        return type(self)(
            self.ids[which],
            self.logits[which],
            self.labels[which],
            self.targets[which],
            self.groups[which],
            {name: values[which] for name, values in self.slices.items()},
        )

    def joined(self, other: Self) -> Self:
        """These rows, then the other's; properties that one side lacks are unknown there."""

        def values(side: Self, name: str) -> Texts:
            return side.slices.get(name, np.full(len(side), ""))

        names = [*self.slices, *(name for name in other.slices if name not in self.slices)]
        return type(self)(
            np.concatenate((self.ids, other.ids)),
            np.concatenate((self.logits, other.logits)),
            np.concatenate((self.labels, other.labels)),
            np.concatenate((self.targets, other.targets)),
            np.concatenate((self.groups, other.groups)),
            {name: np.concatenate((values(self, name), values(other, name))) for name in names},
        )


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, its bootstrap interval, and what the baselines get on the same photos."""

    value: float
    low: float
    high: float
    baselines: Mapping[str, float] = field(default_factory=dict)
