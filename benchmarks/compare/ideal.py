"""What the cores can do at most: decoding alone, then both models alone in batches of 8, a thread for each core."""

import json
import random
import subprocess
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.compare import photos
from benchmarks.compare.contenders import Reference
from benchmarks.machine import cores
from consumer.contract import Geometry
from consumer.embedded.paths import model_repository, servers_environment
from consumer.imaging.decode import decode
from consumer.imaging.limits import PrepareLimits

_ENGINE = Path(__file__).parents[1] / "engine.py"
_BATCH = 8


@dataclass(frozen=True, slots=True)
class Ideal:
    """CPU milliseconds a photo, and the photos a second that follow from them."""

    decode_ms: float
    models_ms: float

    @property
    def rate(self) -> float:
        """Photos a second, if nothing else had to be done and all cores did it."""
        return 1000 * cores() / (self.decode_ms + self.models_ms)


def ideal(folder: Path, served: Reference, count: int, seconds: float) -> Ideal:
    """Decodes so many photos of a folder, then runs each model that is served for so many seconds."""
    models_ms = (
        _model_ms(model_repository() / name / version, served.geometries[name].input_size, seconds)
        for name, version in served.models.items()
    )
    return Ideal(_decode_ms(folder, served.geometries.values(), count), sum(models_ms))


def _decode_ms(folder: Path, geometries: Collection[Geometry], count: int) -> float:
    names = photos.mix(count, seed=1)
    bodies = {name: (folder / name).read_bytes() for name in set(names)}
    limits = PrepareLimits()
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(lambda name: decode(bodies[name], geometries, limits), random.Random(0).sample(names, 10)))
        used = time.process_time()
        list(pool.map(lambda name: decode(bodies[name], geometries, limits), names))
        return 1000 * (time.process_time() - used) / count


def _model_ms(version: Path, side: int, seconds: float) -> float:
    argv = [servers_environment() / "bin" / "python", _ENGINE, version, side, _BATCH, seconds]
    workers = [subprocess.Popen(list(map(str, argv)), stdout=subprocess.PIPE, text=True) for _ in range(cores())]
    found = [json.loads(worker.communicate(timeout=120)[0]) for worker in workers]
    return 1000 * sum(used for _, _, used in found) / sum(images for images, _, _ in found)
