"""A model's logits for labelled photos, and the figures computed from them, with bootstrap intervals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from training.statistics import Flags, Floats, Ints, Texts, bootstrap, softmax


@dataclass(frozen=True, slots=True)
class Answers:
    """Predictions for labelled photos, one row a photo."""

    ids: Texts
    #: [N, C], before the temperature.
    logits: Floats
    #: Class index: the brand, or the nearest level - 1.
    labels: Ints
    #: The label as a number: the class index again, or a rating 1..5 with its fraction.
    targets: Floats
    #: Photos of one group stay together in a bootstrap sample; a photo with "" is a group of its own.
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


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, its 95 % bootstrap interval, and what the baselines get on the same photos."""

    value: float
    low: float
    high: float
    baselines: Mapping[str, float] = field(default_factory=dict)


def measured(
    values_of: Callable[[Ints], Mapping[str, float]], groups: Texts, baselines: Mapping[str, Mapping[str, float]]
) -> dict[str, Figure]:
    """Every value of all photos with its bootstrap interval by group, beside the values of the baselines.

    Args:
        values_of: Computes the values from the photos at some indices.
        groups: Of each photo.
        baselines: By name of the baseline, the same values.
    """
    intervals = bootstrap(values_of, groups)
    return {
        name: Figure(
            value, intervals[name].low, intervals[name].high, {other: of[name] for other, of in baselines.items()}
        )
        for name, value in values_of(np.arange(len(groups))).items()
    }
