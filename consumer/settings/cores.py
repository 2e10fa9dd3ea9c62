"""How many workers and decoding threads this machine has cores for."""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Final

#: A worker keeps three cores busy: two decode, its event loop and its servers take one.
_CORES_OF_A_WORKER: Final = 3
#: A topic has four partitions unless one asks for more, and each worker needs memory of its own.
_MOST_WORKERS: Final = 4
#: One photo that takes long must not stop all others.
_LEAST_THREADS: Final = 2
#: More find the one event loop busy.
_MOST_THREADS: Final = 4


def cores(root: Path = Path("/")) -> int:
    """The cores that this process may keep busy: those that it is bound to, within the quotas of its control groups."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, ceil(min([bound, *_quotas(root)])))


def default_workers(count: int | None = None) -> int:
    """As many workers as have cores enough to be worth their memory."""
    return min(max(1, (count or cores()) // _CORES_OF_A_WORKER), _MOST_WORKERS)


def default_threads(count: int | None = None) -> int:
    """The decoding threads of one of `default_workers`: its cores but one."""
    count = count or cores()
    return min(max(_LEAST_THREADS, count // default_workers(count) - 1), _MOST_THREADS)


def _quotas(root: Path) -> Iterator[float]:
    """The cores that each control group of this process may use, from its own to the root's.

    Yields:
        Quotas of version 1 or 2, in cores; nothing for a group without one.
    """
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        own = Path(path.lstrip("/"))
        for group in (own, *own.parents):
            if not controllers:
                quota = _text(mount / group / "cpu.max")
            elif "cpu" in controllers.split(","):
                names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                quota = " ".join(_text(mount / "cpu" / group / name) for name in names)
            else:
                break
            match quota.split():
                case [most_us, period_us] if most_us.isdecimal() and period_us.isdecimal() and int(period_us):
                    yield int(most_us) / int(period_us)


def _text(path: Path) -> str:
    """What a file says; nothing where there is none, as in a container, which sees its own group as the root."""
    try:
        return os.fsdecode(path.read_bytes())
    except OSError:
        return ""
