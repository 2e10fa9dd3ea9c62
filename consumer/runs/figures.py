"""Figures of many photos: shares with their intervals, histograms and their quantiles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Annotated, Final, Self

from consumer.tags import Bounds
from consumer.tags import Share as Unit

#: The quantile of the normal distribution for an interval of 95 %.
_Z: Final = 1.959963984540054
_PIECE_MS: Final = 10_000
#: Some months of work: more are not told apart.
_MOST_PIECES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `of` photos, and the 95 % interval (Wilson's) of the share 0..1 that it is of photos like these."""

    #: How many are meant.
    count: Annotated[int, Bounds(ge=0)]
    #: Of how many.
    of: Annotated[int, Bounds(ge=0)]
    #: The first of the second; null of no photos, whose interval is 0..1.
    share: Unit | None
    #: The lower end of the interval.
    low: Unit
    #: The upper end of the interval.
    high: Unit


def share(count: int, of: int) -> Share:
    """The share that `count` is of `of`."""
    if of == 0:
        return Share(count, of, None, 0.0, 1.0)
    found, spread = count / of, _Z * _Z / of
    middle = (found + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (found * (1 - found) + spread / 4)) / (1 + spread)
    # At none and at all the interval ends there; rounding would leave a rest.
    low = 0.0 if count == 0 else middle - half
    high = 1.0 if count == of else middle + half
    return Share(count, of, found, low, high)


@dataclass(slots=True)
class Histogram:
    """How many whole numbers fall into each bin of `width` around `first`, `first + width`, ..., and their exact sum.

    A number beyond the ends counts in the last bin there.
    """

    first: int
    width: int
    counts: list[int]
    total: int = field(default=0)

    @classmethod
    def over(cls, first: int, last: int, width: int) -> Self:
        """An empty histogram whose bins are around `first` to `last`."""
        return cls(first, width, [0] * ((last - first) // width + 1))

    def add(self, value: int) -> None:
        """Counts a number."""
        place = (value - self.first + self.width // 2) // self.width
        self.counts[min(max(place, 0), len(self.counts) - 1)] += 1
        self.total += value

    def merge(self, other: Self) -> None:
        """Counts all that the other has.

        Raises:
            ValueError: its bins are others.
        """
        if (self.first, self.width, len(self.counts)) != (other.first, other.width, len(other.counts)):
            raise ValueError("histograms of other bins cannot be merged")
        self.counts = [one + another for one, another in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def mean(self) -> float | None:
        """The exact mean; None of nothing."""
        count = sum(self.counts)
        return self.total / count if count else None

    def quantiles(self, shares: Sequence[float]) -> list[int] | None:
        """The middle of the bin with the number that the given share of all are at most, for each; None of nothing."""
        below = list(accumulate(self.counts))
        if not below[-1]:
            return None
        ranks = (max(math.ceil(share * below[-1]), 1) for share in shares)
        return [self.first + self.width * next(i for i, count in enumerate(below) if count >= rank) for rank in ranks]


class WorkSpan:
    """The time in which something was written again and again, without pauses of ten seconds and more."""

    def __init__(self) -> None:
        self._pieces: set[int] = set()
        self._first_ms, self._last_ms = math.inf, -math.inf

    def add(self, at_ms: int) -> None:
        """It was written at that time; the order does not matter."""
        self._first_ms, self._last_ms = min(self._first_ms, at_ms), max(self._last_ms, at_ms)
        if len(self._pieces) < _MOST_PIECES:
            self._pieces.add(at_ms // _PIECE_MS)

    @property
    def seconds(self) -> float | None:
        """How long that was; None where it was never written, or once."""
        if self._last_ms <= self._first_ms:
            return None
        unused_ms = self._first_ms % _PIECE_MS + _PIECE_MS - self._last_ms % _PIECE_MS
        return (len(self._pieces) * _PIECE_MS - unused_ms) / 1000
