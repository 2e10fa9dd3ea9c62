"""What a comparison found, as Markdown. Ratios are the result: a busy machine changes all figures at once."""

import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.compare.burst import Burst
from benchmarks.compare.contenders import FRAMEWORKS, OURS, OVERLAPPED
from benchmarks.compare.ideal import Ideal
from benchmarks.compare.latency import Beside, Latency

#: Shares of our own rate at which latencies are measured.
SHARES = (0.3, 0.7)
_MARKS = "<!-- make bench: begin -->", "<!-- make bench: end -->"
#: Of all cores: from here on the figures of a run are those of a busy machine.
_BUSY = 0.1
_NONE = "-"


@dataclass(slots=True)
class Results:
    """All measurements; those of bursts by contender and round, latencies by contender and share, memory by backlog."""

    bursts: dict[str, dict[int, Burst]] = field(default_factory=dict)
    http: dict[str, dict[int, Burst]] = field(default_factory=dict)
    ideals: dict[int, Ideal] = field(default_factory=dict)
    latencies: dict[str, dict[float, Latency]] = field(default_factory=dict)
    beside: list[Beside] = field(default_factory=list)
    peaks: dict[str, dict[int, float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def rate(self, name: str) -> float:
        """Median photos a second; 0 where there is no burst."""
        return statistics.median([each.rate for each in self.bursts.get(name, {}).values()] or [0.0])

    def loads(self) -> list[tuple[float, float]]:
        """Cores that others used, and that the host withheld, in each measurement."""
        bursts = [each for kind in (self.bursts, self.http) for runs in kind.values() for each in runs.values()]
        rated = [each for runs in self.latencies.values() for each in runs.values()]
        return [(each.others, each.stolen) for each in (*bursts, *rated)]


def markdown(results: Results, titles: Mapping[str, str], facts: Mapping[str, str], cores: int) -> str:
    """The whole block: what was measured and where, the ratios, the tables."""
    parts = ["; ".join(f"{name}: {value}" for name, value in facts.items()) + ".", _load(results, cores)]
    parts += [_table(("ratio", "measured", "goal"), _ratios(results, titles)), _bursts(results.bursts, titles)]
    if results.ideals:
        decode = statistics.median(each.decode_ms for each in results.ideals.values())
        models = statistics.median(each.models_ms for each in results.ideals.values())
        rate = statistics.median(each.rate for each in results.ideals.values())
        parts.append(f"Ideal: {rate:.0f} photos/s; decoding alone {decode:.2f}, both models alone {models:.2f} CPU-ms.")
    if results.http:
        parts += ["Photos over HTTP:", _bursts(results.http, titles)]
    if results.latencies:
        parts += ["Event to tag, ms:", _latencies(results, titles)]
    if results.peaks:
        parts += ["Peak memory by events in the backlog, MB:", _peaks(results, titles)]
    parts += [f"- {problem}" for problem in results.problems]
    return "\n\n".join(parts)


def replace_block(page: Path, block: str) -> None:
    """Puts the block between the marks of a page.

    Raises:
        ValueError: the page has no such marks.
    """
    text = page.read_text(encoding="utf-8")
    begin, end = _MARKS
    pattern = re.compile(f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{page} has no lines {begin} and {end}")
    page.write_text(pattern.sub(lambda _: f"{block}\n", text), encoding="utf-8")


def paired(
    ours: Mapping[int, Burst], others: Mapping[int, Burst | Ideal], value: Callable[[Burst | Ideal], float]
) -> float | None:
    """The median of ours ÷ theirs over the rounds that have both: what changes between rounds cancels out."""
    ratios = [value(ours[number]) / value(others[number]) for number in ours.keys() & others.keys()]
    return statistics.median(ratios) if ratios else None


def _ratios(results: Results, titles: Mapping[str, str]) -> Iterable[Sequence[str]]:
    ours, overlapped = results.bursts.get(OURS, {}), results.bursts.get(OVERLAPPED, {})
    rate, cpu = (lambda each: each.rate), (lambda each: each.sum_ms)
    other = titles.get(OVERLAPPED, OVERLAPPED)
    yield _ratio("rate, ours ÷ ideal", paired(ours, results.ideals, rate), "≥ 0.85")
    yield _ratio(f"rate, ours ÷ {other}", paired(ours, overlapped, rate), "≥ 1.05")
    yield _ratio(f"CPU-ms a photo, ours ÷ {other}", paired(ours, overlapped, cpu), "≤ 1.0")
    best = max((name for name in FRAMEWORKS if name in results.bursts), key=results.rate, default=None)
    if best:
        ratio = paired(ours, results.bursts[best], rate)
        yield _ratio(f"rate, ours ÷ best framework ({titles[best]})", ratio, "≥ 1.7")
    http = paired(results.http.get(OURS, {}), results.http.get(OVERLAPPED, {}), cpu)
    yield _ratio(f"CPU-ms a photo over HTTP, ours ÷ {other}", http, "≤ 1.05")
    slow = [results.latencies.get(name, {}).get(SHARES[-1]) for name in (OURS, OVERLAPPED)]
    ratio = slow[0].p99_ms / slow[1].p99_ms if all(slow) else None
    yield _ratio(f"p99 at {SHARES[-1]:.0%} load, ours ÷ {other}", ratio, "≤ 0.5")
    kept = [each.beside.p99_ms / each.alone.p99_ms for each in results.beside if each.outlasted]
    yield _ratio("live p99, with a replay beside ÷ without", statistics.median(kept) if kept else None, "≤ 1.3")
    peaks = sorted(results.peaks.get(OURS, {}).items())
    ratio = peaks[-1][1] / peaks[0][1] if len(peaks) > 1 else None
    yield _ratio("peak memory of ours, largest ÷ smallest backlog", ratio, "≤ 1.05")


def _ratio(what: str, value: float | None, goal: str) -> Sequence[str]:
    return what, _NONE if value is None else f"{value:.2f}", goal


def _bursts(bursts: Mapping[str, Mapping[int, Burst]], titles: Mapping[str, str]) -> str:
    def middle(runs: Iterable[Burst], value: Callable[[Burst], float]) -> float:
        return statistics.median(map(value, runs))

    rows = []
    for name, rounds in bursts.items():
        runs = list(rounds.values())
        rates = sorted(each.rate for each in runs)
        cpu = [f"{middle(runs, lambda each, part=part: each.cpu_ms[part]):.2f}" for part in runs[0].cpu_ms]
        rows.append(
            (
                titles[name],
                f"{statistics.median(rates):.0f} ({rates[0]:.0f} to {rates[-1]:.0f})",
                f"**{middle(runs, lambda each: each.sum_ms):.2f}**",
                *cpu,
                f"{middle(runs, lambda each: each.peak_mb):.0f}",
                f"{sum(each.right for each in runs)}/{sum(each.photos for each in runs)}",
                f"{middle(runs, lambda each: each.others):.2f} (≤ {max(each.others for each in runs):.2f})",
            )
        )
    first = next(iter(bursts.values()), {})
    parts = [part for each in list(first.values())[:1] for part in each.cpu_ms]
    heads = ("", "photos/s (least to most)", "CPU-ms a photo", *parts, "peak MB", "right", "others' cores")
    return _table(heads, sorted(rows, key=lambda row: -float(row[1].split()[0])))


def _latencies(results: Results, titles: Mapping[str, str]) -> str:
    def cells(runs: Mapping[float, Latency]) -> Iterable[str]:
        for share in SHARES:
            found = runs.get(share)
            yield from (f"{found.p50_ms:.1f}", f"{found.p99_ms:.1f}", f"{found.others:.2f}") if found else (_NONE,) * 3

    rows = [(titles[name], *cells(runs)) for name, runs in results.latencies.items()]
    rates = {share: found.rate for runs in results.latencies.values() for share, found in runs.items()}
    heads = [
        f"{name} at {share:.0%}, {rates.get(share, 0):.0f}/s"
        for share in SHARES
        for name in ("p50", "p99", "others' cores")
    ]
    for each in results.beside:
        for name, found in (("ours, alone again", each.alone), ("ours, a replay beside", each.beside)):
            rows.append((name, *cells({SHARES[0]: found})))
    return _table(("", *heads), rows)


def _peaks(results: Results, titles: Mapping[str, str]) -> str:
    sizes = sorted({size for peaks in results.peaks.values() for size in peaks})
    rows = [
        (titles[name], *(f"{peaks[size]:.0f}" if size in peaks else _NONE for size in sizes))
        for name, peaks in results.peaks.items()
    ]
    return _table(("", *(f"{size:,}" for size in sizes)), rows)


def _load(results: Results, cores: int) -> str:
    loads = results.loads()
    if not loads:
        return "No load was measured."
    others, stolen = (sorted(values) for values in zip(*loads, strict=True))
    text = (
        f"Other processes used {statistics.median(others):.2f} cores of {cores} (at most {others[-1]:.2f}), "
        f"the host withheld {statistics.median(stolen):.2f} (at most {stolen[-1]:.2f})."
    )
    busy = statistics.median(others) + statistics.median(stolen) > _BUSY * cores
    return f"{text} **A busy machine: only the ratios count.**" if busy else text


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
