"""The photos of the comparison, made by code: JPEG, 60 % of 0.2 MP, 30 % of 2 MP and 10 % of 12 MP."""

import os
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from tests.unit.photos import encoded, photo


@dataclass(frozen=True, slots=True)
class Kind:
    """One size of photo: its share of the mix in percent, sides in pixels, JPEG quality, and how many differ."""

    share: int
    width: int
    height: int
    quality: int
    count: int


#: What messengers send, what browsers upload, what the camera writes.
KINDS = {
    "small": Kind(60, 512, 384, 80, 36),
    "middle": Kind(30, 1632, 1224, 85, 18),
    "large": Kind(10, 4032, 3024, 92, 6),
}
#: The smallest photo, for measurements that want many events and little work.
TINY = "tiny"
_TINY = Kind(0, 96, 96, 75, 1)


def make(folder: Path) -> None:
    """Writes the photos that are missing: half a minute of CPU the first time."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [
        (folder / name, kind, seed)
        for size, kind in {**KINDS, TINY: _TINY}.items()
        for seed, name in enumerate(names_of(size, kind))
        if not (folder / name).exists()
    ]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(_write, *zip(*wanted, strict=True))) if wanted else None


def names_of(size: str, kind: Kind) -> list[str]:
    """File names; they say what is inside, so that other parameters make other files."""
    return [f"{size}-{kind.width}x{kind.height}-q{kind.quality}-{number:02}.jpg" for number in range(kind.count)]


def tiny() -> str:
    return names_of(TINY, _TINY)[0]


def every_name() -> list[str]:
    return [name for size, kind in KINDS.items() for name in names_of(size, kind)]


def mix(count: int, seed: int) -> Sequence[str]:
    """Names of `count` photos in the shares of the mix, shuffled; the same for the same seed."""
    files = {size: cycle(names_of(size, kind)) for size, kind in KINDS.items()}
    pattern = [size for size, kind in KINDS.items() for _ in range(kind.share // 10)]
    names = [next(files[size]) for size, _ in zip(cycle(pattern), range(count), strict=False)]
    random.Random(seed).shuffle(names)
    return names


def _write(path: Path, kind: Kind, seed: int) -> None:
    draft = path.with_suffix(f".{os.getpid()}")
    image = photo(kind.width, kind.height, seed=seed)
    draft.write_bytes(encoded(image, "JPEG", quality=kind.quality, subsampling="4:2:0"))
    draft.rename(path)
