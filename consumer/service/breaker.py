"""The circuit breaker: when too many photos become dead letters, the cause is hardly the photos. Pure."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """It opens at a `ratio` of dead letters in `least` or more outcomes within `window_s`; at a ratio of 0, never."""

    ratio: float
    cool_down_s: float
    least: int
    window_s: float = 60.0
    probes: int = 5


class Breaker:
    """Closed: admits all. Open: none, for the cool-down. Half open: probes; one success closes it, else it reopens.

    A permit counts only in the state that issued it: an outcome of work that began earlier is ignored.
    """

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._state: State = "closed"
        self._generation = 0
        self._outcomes: deque[tuple[float, bool]] = deque()
        self._dead = 0
        self._opened_s = 0.0
        self._probes_left = 0
        self._probes_dead = 0
        #: Dead letters, and all outcomes, in the window when it opened last.
        self.seen = (0, 0)

    @property
    def state(self) -> State:
        """The present state; only `admit` ends a cool-down."""
        return self._state

    def admit(self, now_s: float) -> int | None:
        """A permit for one record, to be passed to `note` with its outcome; None where it has to wait."""
        if self._state == "open" and now_s >= self._opened_s + self._limits.cool_down_s:
            self._enter("half_open")
            self._probes_left, self._probes_dead = self._limits.probes, 0
        if self._state == "open" or (self._state == "half_open" and self._probes_left == 0):
            return None
        if self._state == "half_open":
            self._probes_left -= 1
        return self._generation

    def note(self, permit: int, *, dead: bool | None, now_s: float) -> None:
        """The outcome of an admitted record; `dead` is None where it has none yet, as after a deferral."""
        if permit != self._generation or self._limits.ratio <= 0:
            return
        if self._state == "half_open":
            self._note_probe(dead=dead, now_s=now_s)
        elif dead is not None:
            self._outcomes.append((now_s, dead))
            self._dead += dead
            self._forget(now_s)
            total = len(self._outcomes)
            if total >= self._limits.least and self._dead >= self._limits.ratio * total:
                self._open(now_s)

    def _note_probe(self, *, dead: bool | None, now_s: float) -> None:
        if dead is None:
            self._probes_left += 1
        elif not dead:
            self._enter("closed")
        else:
            self._probes_dead += 1
            if self._probes_dead == self._limits.probes:
                self._open(now_s)

    def _open(self, now_s: float) -> None:
        if self._state == "closed":
            self.seen = (self._dead, len(self._outcomes))
        self._opened_s = now_s
        self._enter("open")

    def _enter(self, state: State) -> None:
        self._state = state
        self._generation += 1
        self._outcomes.clear()
        self._dead = 0

    def _forget(self, now_s: float) -> None:
        while self._outcomes and now_s - self._outcomes[0][0] > self._limits.window_s:
            self._dead -= self._outcomes.popleft()[1]
