"""How far the work on a run is, and how it ended."""

from collections.abc import Callable
from dataclasses import dataclass

from consumer.runs.definition import Run


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: offsets behind all its workers, offsets in all, photos a second here, and its outcomes here."""

    done: int
    total: int
    photos_per_s: float
    outcomes: dict[str, int]

    @property
    def left_s(self) -> float | None:
        """About how long it takes at this rate; None where that cannot be said."""
        if not self.photos_per_s or not self.total:
            return None
        return max(0, self.total - self.done) / self.photos_per_s


Told = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Worked:
    """The run as it is at the end of the work here, and whether nothing of it is left."""

    run: Run
    complete: bool
    outcomes: dict[str, int]
