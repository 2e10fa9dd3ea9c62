"""The fetches that wait for one host, and how long its answers take."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from math import inf
from time import monotonic
from typing import Final, Protocol

#: What takes so many times as long as the answers of its host is hardly about to come.
_UNUSUAL: Final = 2.0
#: The longest of its answers counts less with each further one.
_FADES: Final = 0.9


class Guest(Protocol):
    """A fetch."""

    def give_way(self) -> None:
        """Ends soon, so that others get its place and its bytes."""


def _nobody() -> bool:
    return False


@dataclass(slots=True, eq=False)
class Room:
    """The fetches that wait for one host, with the time since when, oldest first."""

    guests: dict[Guest, float] = field(default_factory=dict)
    #: The bytes that they reserved for their bodies, or wait for.
    sizes: dict[Guest, int] = field(default_factory=dict)
    #: It answered, and no fetch has waited in vain for long since.
    answers: bool = False
    #: It was late once, since it answered last.
    was_late: bool = False
    answered_s: float = -inf
    #: How long its answers take, at most.
    usual_s: float = 0.0
    #: After it held more than its share, so many answers are due before it is no longer limited.
    owed: int = 0
    others_answer: Callable[[], bool] = _nobody

    @property
    def limited(self) -> bool:
        """Whether it may hold a share and no more."""
        return not self.answers or self.owed > 0

    @property
    def is_new(self) -> bool:
        """Whether it has not been asked, as far as is known."""
        return not self.answers and not self.was_late and not self.guests

    @property
    def oldest_s(self) -> float:
        """Since when the oldest fetch waits."""
        return next(iter(self.guests.values()), inf)

    def took(self, guest: Guest) -> None:
        """The host answered this fetch."""
        if (since_s := self.guests.get(guest)) is not None:
            self.usual_s = max(monotonic() - since_s, self.usual_s * _FADES)

    def late(self, overdue_s: float) -> list[Guest]:
        """The fetches that have waited for that long, oldest first."""
        until_s = monotonic() - overdue_s
        return [guest for guest, _ in takewhile(lambda entry: entry[1] <= until_s, self.guests.items())]

    def hung(self, overdue_s: float) -> list[Guest]:
        """Of the late ones, those that wait for much longer than its answers take."""
        return self.late(max(overdue_s, self.usual_s * _UNUSUAL))

    def beyond(self, size: int, hung: list[Guest]) -> list[Guest]:
        """What must go so that hung fetches hold no more bytes: the youngest of them, and all that wait for bytes."""
        held, gone = 0, list[Guest]()
        for guest in hung:
            held += self.sizes.get(guest, 0)
            if guest in self.sizes and held > size:
                gone.append(guest)
        return gone and gone + [guest for guest in self.sizes if guest not in self.guests]
