"""A burst: many events at once. Photos a second, CPU time by process, and whether all results are right."""

import time
from dataclasses import dataclass

from benchmarks import machine
from benchmarks.compare import photos
from benchmarks.compare.rig import Rig, right

_SEED = 1


@dataclass(frozen=True, slots=True)
class Burst:
    """One burst; CPU milliseconds a photo by process, and the cores that others used meanwhile."""

    photos: int
    right: int
    rate: float
    cpu_ms: dict[str, float]
    peak_mb: float
    others: float
    stolen: float

    @property
    def sum_ms(self) -> float:
        """All that tagging takes; not the driver and the photo host, which are no part of it."""
        return sum(value for name, value in self.cpu_ms.items() if name not in {"driver", "host"})


def burst(rig: Rig, name: str, tag: str, count: int, *, http: bool = False) -> Burst:
    """Raises `Failed` where the contender does."""
    names = photos.mix(count, _SEED)
    with rig.run(name, tag, http=http) as run:
        before = rig.usage(run)
        began = time.time()
        ids = dict(zip(run.send("burst", names, http=http), names, strict=True))
        run.wait()
        usage = machine.between(before, rig.usage(run))
        peak_mb = machine.peak_mb(run.process.pid)
        results = run.results()
    last_s = max(results[photo_id].at_s for photo_id in ids if photo_id in results)
    return Burst(
        photos=count,
        right=right(rig, ids, results),
        rate=count / (last_s - began),
        cpu_ms={part: 1000 * seconds / count for part, seconds in usage.used_s.items()},
        peak_mb=peak_mb,
        others=usage.others,
        stolen=usage.stolen,
    )
