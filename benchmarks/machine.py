"""What a benchmark says about the machine: CPU time and memory by process, the load of others, the CPU's name."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

#: What the speed of int8 hangs on.
INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters at one moment, in seconds; CPU time by name of a group of processes."""

    at_s: float
    busy_s: float
    stolen_s: float
    used_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used between two readings: CPU seconds by group, and cores that others kept busy or the host took."""

    used_s: Mapping[str, float]
    others: float
    stolen: float


def tree(pid: int) -> Iterator[int]:
    """A process and all below it.

    Yields:
        Their ids.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        fields = _stat(int(entry.parent.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    waiting = [pid]
    while waiting:
        found = waiting.pop()
        yield found
        waiting += children.get(found, [])


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and all below it have used."""
    return sum(int(fields[11]) + int(fields[12]) for fields in map(_stat, tree(pid)) if fields) / _TICKS


def peak_mb(pid: int) -> float:
    """Most memory that a process and all below it have held, each at its own peak."""
    peaks = 0
    for process in tree(pid):
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:
            continue
        peaks += next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
    return peaks / 1024


def read(groups: Mapping[str, Callable[[], float]]) -> Reading:
    """All counters now; `groups` give their own CPU seconds."""
    busy_s, stolen_s = totals(Path("/proc/stat").read_text())
    return Reading(time.monotonic(), busy_s, stolen_s, {name: seconds() for name, seconds in groups.items()})


def totals(stat: str) -> tuple[float, float]:
    """Seconds in which the cores of the machine were busy, and in which the host withheld them, from /proc/stat."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.split("\n", 1)[0].split()[1:9])
    return (user + nice + system + irq + softirq) / _TICKS, steal / _TICKS


def between(before: Reading, after: Reading) -> Usage:
    took_s = after.at_s - before.at_s
    used_s = {name: after.used_s[name] - before.used_s[name] for name in before.used_s}
    others_s = after.busy_s - before.busy_s - sum(used_s.values())
    return Usage(used_s, max(0.0, others_s / took_s), (after.stolen_s - before.stolen_s) / took_s)


def describe(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's name, how many cores may be used, and which of the instructions that matter it has."""
    lines = cpuinfo.read_text().splitlines()
    facts = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    known = set(facts.get("flags", "").split())
    name = f"{facts.get('model name', 'unknown CPU')}, family {facts.get('cpu family')} model {facts.get('model')}"
    has = ", ".join(flag for flag in INSTRUCTIONS if flag in known) or "none"
    lacks = ", ".join(flag for flag in INSTRUCTIONS if flag not in known) or "none"
    return f"{name}; {cores()} cores; has {has}; lacks {lacks}"


def cores() -> int:
    return len(os.sched_getaffinity(0))


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name; none where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
