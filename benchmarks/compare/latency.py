"""Event to tag at a constant rate: from when an event was due to when the broker has its result."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks import machine
from benchmarks.compare import contenders, photos
from benchmarks.compare.contenders import OURS
from benchmarks.compare.rig import Failed, Rig, Run
from consumer.embedded.process import Server

_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds at one rate, and the cores that others used meanwhile."""

    rate: float
    p50_ms: float
    p99_ms: float
    others: float
    stolen: float


@dataclass(frozen=True, slots=True)
class Beside:
    """Live traffic without a replay, then with one beside it that ran to the end of the measurement, or did not."""

    alone: Latency
    beside: Latency
    outlasted: bool


def at_rates(rig: Rig, name: str, tag: str, rates: list[float], seconds: float) -> list[Latency]:
    """One start, and each rate for so many seconds. Raises `Failed` where the contender does."""
    with rig.run(name, tag) as run:
        return [_at_rate(run, f"rate{number}", rate, seconds) for number, rate in enumerate(rates)]


def beside_replay(rig: Rig, tag: str, rate: float, seconds: float, *, old: int, pairs: int) -> list[Beside]:
    """The service at a rate, alone and then beside a replay of all that it has tagged, at least `old` photos."""
    with rig.run(OURS, tag) as run:
        run.send("old", photos.mix(old, seed=9))
        run.wait()
        found = []
        for pair in range(pairs):
            alone = _at_rate(run, f"alone{pair}", rate, seconds)
            with _replay(run) as replay:
                beside = _at_rate(run, f"beside{pair}", rate, seconds)
                found.append(Beside(alone, beside, outlasted=replay.running))
        return found


@contextmanager
def _replay(run: Run) -> Iterator[Server]:
    """A replay of the run's uploads so far, which it publishes again: its results say that it works.

    Yields:
        Its process, which is ended afterwards.
    """
    place, tag = run.rig.place(run.topics, run.tag), f"{run.tag}-beside"
    process = contenders.contender(run.rig.guardian, OURS, place, tag, "replay", "--from", "beginning")
    process.launch()
    try:
        found, deadline = run.count(), time.monotonic() + _START_S
        while run.count() == found:
            if time.monotonic() > deadline or not process.running:
                raise Failed(f"{run.tag}: the replay published nothing; its log is {process.log_path}")
            time.sleep(0.05)
        yield process
    finally:
        process.stop()


def _at_rate(run: Run, part: str, rate: float, seconds: float) -> Latency:
    names = photos.mix(max(10, round(rate * seconds)), seed=3)
    before = run.rig.usage(run)
    due = run.send(part, names, rate=rate)
    usage = machine.between(before, run.rig.usage(run))
    results = _results(run, due)
    waits_ms = [1000 * (results[photo_id] - at_s) for photo_id, at_s in due.items()]
    cuts = statistics.quantiles(waits_ms, n=100, method="inclusive")
    return Latency(rate, cuts[49], cuts[98], usage.others, usage.stolen)


def _results(run: Run, due: dict[str, float]) -> dict[str, float]:
    """When the first result of each photo was appended; a replay's results of other photos come between them."""
    run.wait()
    deadline = time.monotonic() + _START_S
    while True:
        found = run.results()
        if due.keys() <= found.keys():
            return {photo_id: found[photo_id].at_s for photo_id in due}
        run.require(len(found), time.monotonic() < deadline)
        time.sleep(0.2)
