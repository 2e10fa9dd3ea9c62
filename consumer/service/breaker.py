"""The circuit breaker: when too many photos become dead letters, the cause is hardly the photos. Pure."""

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

from consumer.errors import Reason
from consumer.telemetry import Outcome

State = Literal["closed", "open", "half_open"]

#: A host and both models have answered.
_GOOD: Final = frozenset[Outcome]({"tagged", "unchanged"})
#: What the event or the photo itself is, which no broken host or model brings about.
_SENDERS_FAULT: Final = frozenset[Reason](
    {"invalid_event", "url_not_allowed", "too_many_bytes", "too_many_pixels", "too_many_scans"}
)
_SETTLE_S: Final = 5.0


def evidence(outcome: Outcome | None, reason: Reason | None) -> bool | None:
    """Whether an outcome tells of a broken host or model: True where it does, False where they work, else None.

    A dead letter does, unless its reason is the sender's fault; one without a known reason does. Records that did not
    ask a host or a model to the end (deleted, superseded, deferred, skipped, cancelled) say nothing.
    """
    if outcome == "dead_lettered":
        return None if reason in _SENDERS_FAULT else True
    return False if outcome in _GOOD else None


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """It opens at a `ratio` of dead letters in `least` or more outcomes within `window_s`; at a ratio of 0, never.

    `probes` are admitted after the first cool-down, and twice as many after each further one, up to `least`.
    """

    ratio: float
    cool_down_s: float
    least: int
    window_s: float = 60.0
    probes: int = 5

    @property
    def settle_s(self) -> float:
        """How long it waits for more records, when fewer came than it may probe and all of those failed."""
        return min(self.cool_down_s, _SETTLE_S)


class Breaker:
    """Closed: admits all. Open: none, for the cool-down. Half open: probes; one success closes it, else it reopens.

    So of the records that wait, the n-th is admitted after log2(n / probes + 1) cool-downs, and beyond `least` probes
    a round after one more for each `least` of them: bad records hold a good one back for a bounded time, and a broken
    model costs `least` dead letters in a cool-down at most. A half-open round ends within `window_s`.

    A permit counts only in the state that issued it: an outcome of work that began earlier is ignored.
    """

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._state: State = "closed"
        self._generation = 0
        self._outcomes: deque[tuple[float, bool]] = deque()
        self._dead = 0
        self._entered_s = 0.0
        #: Of a half-open round: how many it admits, how many more, how many of them run and were dead, and when one
        #: ended last.
        self._probes = limits.probes
        self._probes_left = self._probes_running = self._probes_dead = 0
        self._probed_s = 0.0
        #: Dead letters, and all outcomes that count, in the window when it opened last.
        self.seen = (0, 0)

    @property
    def state(self) -> State:
        """The present state; only time and outcomes change it."""
        return self._state

    def tick(self, now_s: float) -> None:
        """Acts on the time: ends a cool-down, and decides a half-open round that gets no further by itself."""
        waited_s = now_s - self._entered_s
        if self._state == "open" and waited_s >= self._limits.cool_down_s:
            self._enter("half_open", now_s)
            self._probes_left, self._probes_running, self._probes_dead = self._probes, 0, 0
        elif self._state == "half_open":
            ended = self._probes_dead > 0 and self._probes_running == 0
            if (ended and now_s - self._probed_s >= self._limits.settle_s) or waited_s >= self._limits.window_s:
                self._decide(now_s)

    def admit(self, now_s: float) -> int | None:
        """A permit for one record, to be passed to `note` with its outcome; None where it has to wait."""
        self.tick(now_s)
        if self._state == "open" or (self._state == "half_open" and self._probes_left == 0):
            return None
        if self._state == "half_open":
            self._probes_left -= 1
            self._probes_running += 1
        return self._generation

    def note(self, permit: int, *, dead: bool | None, now_s: float) -> None:
        """The outcome of an admitted record, as `evidence` has it."""
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
                self.seen = (self._dead, total)
                self._enter("open", now_s)

    def _note_probe(self, *, dead: bool | None, now_s: float) -> None:
        self._probes_running -= 1
        self._probed_s = now_s
        if dead is None:
            self._probes_left += 1
        elif not dead:
            self._close(now_s)
        else:
            self._probes_dead += 1
            if self._probes_dead == self._probes:
                self._decide(now_s)

    def _decide(self, now_s: float) -> None:
        """Ends a half-open round that had no success: opens again if any probe was dead, else closes."""
        if self._probes_dead == 0:
            self._close(now_s)
            return
        self._probes = min(2 * self._probes, max(self._limits.least, self._limits.probes))
        self._enter("open", now_s)

    def _close(self, now_s: float) -> None:
        self._probes = self._limits.probes
        self._enter("closed", now_s)

    def _enter(self, state: State, now_s: float) -> None:
        self._state = state
        self._entered_s = now_s
        self._generation += 1
        self._outcomes.clear()
        self._dead = 0

    def _forget(self, now_s: float) -> None:
        while self._outcomes and now_s - self._outcomes[0][0] > self._limits.window_s:
            self._dead -= self._outcomes.popleft()[1]
