"""The sampling order of training: a pure function of seed and step, so that resuming needs no replay."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np


class SamplingOrder:
    """Indices of the photos of every step.

    Natural order shuffles all photos once per epoch. Balanced order cycles through the labels, each with its own
    shuffled epochs, so that all labels are equally frequent.
    """

    def __init__(
        self,
        labels: Sequence[int],
        batch: int,
        seed: int,
        *,
        balanced: bool = False,
        reserved: tuple[int, float] | None = None,
    ) -> None:
        """With the label of each photo; `reserved` is a label and its share of every balanced batch."""
        self._seed = seed
        if not balanced:
            self._streams = [[list(range(len(labels)))]]
            self._sizes = [batch]
            return
        by_label = {label: [i for i, own in enumerate(labels) if own == label] for label in sorted(set(labels))}
        held = 0
        self._streams, self._sizes = [], []
        if reserved is not None and reserved[0] in by_label and len(by_label) > 1:
            held = min(round(batch * reserved[1]), batch - 1)
            rest = by_label.pop(reserved[0])
            if held:
                self._streams.append([rest])
                self._sizes.append(held)
        self._streams.append(list(by_label.values()))
        self._sizes.append(batch - held)

    def indices(self, step: int) -> list[int]:
        """The photos of a step, from 0."""
        chosen: list[int] = []
        for number, (members, size) in enumerate(zip(self._streams, self._sizes, strict=True)):
            for position in range(step * size, (step + 1) * size):
                cycle, place = divmod(position, len(members))
                which = int(shuffled(len(members), (self._seed, number, 0, cycle))[place]) if len(members) > 1 else 0
                epoch, offset = divmod(cycle, len(members[which]))
                own = shuffled(len(members[which]), (self._seed, number, which + 1, epoch))
                chosen.append(members[which][int(own[offset])])
        return chosen


@lru_cache(maxsize=512)
def shuffled(count: int, seed: tuple[int, ...]) -> np.ndarray:
    """The numbers below `count` in an order of the seed's; not to be written to."""
    return np.random.default_rng(seed).permutation(count)
