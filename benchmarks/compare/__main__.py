"""The service beside what people would write instead, on the same servers, models and photos: `make bench`.

Contenders take turns, so that whatever else the machine does hits all of them; `--short` takes two minutes.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks import machine
from benchmarks.compare import contenders, latency, memory, photos, report
from benchmarks.compare.burst import Burst, burst
from benchmarks.compare.contenders import NAMES, OURS, OVERLAPPED, ROOT, LeftOut, title
from benchmarks.compare.ideal import ideal
from benchmarks.compare.report import SHARES, Results
from benchmarks.compare.rig import Failed, Rig
from consumer.embedded.paths import cache_folder, model_repository, new_logs_folder
from consumer.embedded.process import EmbeddedServerError
from consumer.embedded.servers import start_stack

T = TypeVar("T")

#: A contender is asked for a rate only if it did so much more in the bursts: else its queue grows without end.
_ROOM = 1.1


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    photos: int
    rounds: int
    http_rounds: int
    rate_s: float
    rated: tuple[str, ...]
    replayed: int
    replays: int
    backlogs: tuple[int, ...]
    backlog_s: float


_LONG = Sizes(600, 3, 2, 10.0, NAMES, 1500, 2, (10_000, 1_000_000), 8.0)
_SHORT = Sizes(200, 1, 1, 4.0, (OURS, OVERLAPPED), 500, 1, (), 0.0)


class Comparison:
    """One comparison: what it measures, and what it has found so far."""

    def __init__(self, rig: Rig, sizes: Sizes, names: list[str]) -> None:
        self.rig, self.sizes, self.names = rig, sizes, names
        self.results = Results()

    def bursts(self) -> None:
        """Rounds in turns; each begins with another contender. The servers' first burst is their slowest: nobody's."""
        self._try(partial(burst, self.rig, self.names[-1], "first", self.sizes.photos))
        for number in range(self.sizes.rounds):
            found = ideal(self.rig.folder, self.rig.reference, self.sizes.photos // 2, 1.0)
            self.results.ideals[number] = found
            say(f"round {number}: ideal {found.rate:.0f} photos/s")
            turn = number % len(self.names)
            for name in self.names[turn:] + self.names[:turn]:
                self._burst(self.results.bursts, name, number)
        for number in range(self.sizes.http_rounds):
            for name in (OURS, OVERLAPPED):
                if name in self.names:
                    self._burst(self.results.http, name, number, http=True)

    def latencies(self) -> None:
        """Each at shares of our own rate, as far as it can go."""
        ours = self.results.rate(OURS)
        for name in self.sizes.rated:
            shares = [share for share in SHARES if self.results.rate(name) > _ROOM * share * ours > 0]
            rates = [share * ours for share in shares]
            measure = partial(latency.at_rates, self.rig, name, f"rate-{name}", rates, self.sizes.rate_s)
            found = self._try(measure) if rates else None
            if found:
                self.results.latencies[name] = dict(zip(shares, found, strict=True))
                say(f"{name}: " + ", ".join(f"{each.p50_ms:.1f}/{each.p99_ms:.1f} ms" for each in found))

    def replay(self) -> None:
        """Ours at the lower rate, without and with a replay beside it."""
        sizes, rate = self.sizes, SHARES[0] * self.results.rate(OURS)
        measure = partial(
            latency.beside_replay, self.rig, "replay", rate, sizes.rate_s, old=sizes.replayed, pairs=sizes.replays
        )
        self.results.beside = (self._try(measure) if rate else None) or []
        for each in self.results.beside:
            say(f"p99 beside a replay {each.beside.p99_ms:.1f}, alone {each.alone.p99_ms:.1f} ms")
            if not each.outlasted:
                self.results.problems.append("a replay ended before the measurement beside it, which does not count")

    def memory(self) -> None:
        """One backlog after the other, each for all contenders."""
        for count in self.sizes.backlogs:
            topic = f"backlog-{count}"
            memory.backlog(self.rig, topic, count)
            for name in self.names:
                tag = f"memory-{count}-{name}"
                found = self._try(partial(memory.peak, self.rig, name, tag, topic, self.sizes.backlog_s))
                if found:
                    self.results.peaks.setdefault(name, {})[count] = found
                    say(f"{name}: {found:.0f} MB with {count:,} events in front of it")
            self.rig.admin.delete_topics([topic])

    def _burst(self, into: dict[str, dict[int, Burst]], name: str, number: int, *, http: bool = False) -> None:
        tag = f"{'http' if http else 'burst'}{number}-{name}"
        found = self._try(partial(burst, self.rig, name, tag, self.sizes.photos, http=http))
        if found:
            into.setdefault(name, {})[number] = found
            if found.right < found.photos:
                self.results.problems.append(f"{tag}: only {found.right} of {found.photos} results are right")
            load = f"others {found.others:.2f}, stolen {found.stolen:.2f} cores"
            say(f"{tag}: {found.rate:.0f} photos/s, {found.sum_ms:.2f} CPU-ms, {load}")

    def _try(self, measure: Callable[[], T]) -> T | None:
        """What a measurement finds; None where a contender fails, which is noted."""
        try:
            return measure()
        except Failed as failed:
            say(str(failed))
            self.results.problems.append(str(failed).splitlines()[0])
            return None


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def compare(sizes: Sizes, names: list[str]) -> Results:
    """Starts the servers and measures everything, in this order: the latencies need our rate."""
    folder = cache_folder() / "bench" / "photos"
    logs, _ = new_logs_folder()
    photos.make(folder)
    say(f"logs are kept in {logs}")
    with start_stack(logs, model_repository(), "real", say) as stack, Rig(stack, folder, logs) as rig:
        comparison = Comparison(rig, sizes, names)
        comparison.bursts()
        comparison.latencies()
        comparison.replay()
        comparison.memory()
    return comparison.results


def able(names: list[str]) -> tuple[list[str], list[str]]:
    """Those that can be started here, and why the others cannot."""
    found, problems = [], []
    for name in names:
        try:
            contenders.prepare(name)
        except LeftOut as reason:
            say(str(reason))
            problems.append(" ".join(str(reason).split()))
        else:
            found.append(name)
    return found, problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="two minutes: fewer photos, one round, no memory")
    parser.add_argument("--only", help=f"comma-separated, of {','.join(NAMES)}")
    parser.add_argument("--record", type=Path, help="a page that the tables are written into")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else list(NAMES)
    if unknown := set(chosen) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    began, sizes = time.monotonic(), _SHORT if arguments.short else _LONG
    names, left_out = able(chosen)
    try:
        results = compare(sizes, names)
    except EmbeddedServerError as error:
        say(str(error))
        return 1
    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine.describe(),
        "Python": platform.python_version(),
        "took": f"{time.monotonic() - began:.0f} s",
        "bursts": f"{sizes.rounds} of {sizes.photos} photos",
    }
    failed = bool(results.problems)
    results.problems += left_out
    block = report.markdown(results, {name: title(name) for name in NAMES}, facts, machine.cores())
    print(block)
    raw = cache_folder() / "bench" / "results.json"
    raw.write_text(json.dumps({"facts": facts, **asdict(results)}, indent=1))
    if arguments.record:
        report.replace_block(ROOT / arguments.record, block)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
