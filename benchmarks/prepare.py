"""CPU time of `prepare` for small, middle and large JPEG, as a share of the decoder's floor: `make bench-prepare`.

The floor is what libjpeg-turbo cannot do without: entropy decoding. It is measured as a decode of luma alone at scale
1/8, in the same run and the same process, by libjpeg-turbo 3 inside the wheel of simplejpeg: at that scale a block
costs one multiplication, 1/64 of the pixels are written, and colour is skipped after its bits are read. The share is
the floor's time by that of a pipeline. All pipelines take the same bytes and give 224x224 RGB; they run in turns, photo
by photo, each figure is the median over rounds and photos, in milliseconds of CPU. Neighbours make CPU time longer too,
and most that of pipelines that use much memory: measure on a quiet machine.

Photos: `--photos DIR`, the largest ones scaled to three classes; without it, pictures that the bench makes, of
photo-like content. The classes are 500x375 at quality 98 (0.2 MP; about 120 kB, as ImageNet's), 1632x1224 at 85 (2 MP)
and 4032x3024 at 90 (12 MP), all 4:2:0. The fewer bytes a small photo has, the more of its time is the resize.
"""

import argparse
import io
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from consumer.contract import Geometry
from consumer.imaging.decode import SILENCE, decode
from consumer.imaging.limits import PrepareLimits
from tests.unit.photos import photo

GEOMETRY = Geometry(input_size=224, resize_short_side=232)
CLASSES = {"S 0.2 MP": (500, 375, 98, 16), "M 2 MP": (1632, 1224, 85, 8), "L 12 MP": (4032, 3024, 90, 4)}
LEAST = {"S 0.2 MP": 0.40, "M 2 MP": 0.52, "L 12 MP": 0.70}
Pipeline = Callable[[bytes], object]
#: Other plugins of Pillow may start programs.
_READ = ("JPEG", "PNG", "WEBP")


def ours(body: bytes) -> object:
    return decode(body, [GEOMETRY], PrepareLimits())


def exact(body: bytes) -> object:
    return decode(body, [GEOMETRY], PrepareLimits(exact=True))


def plain_pillow(body: bytes) -> object:
    image = Image.open(io.BytesIO(body), formats=["JPEG"]).convert("RGB")
    short, size = GEOMETRY.resize_short_side, GEOMETRY.input_size
    factor = short / min(image.size)
    width, height = round(image.width * factor), round(image.height * factor)
    small = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(small.crop((left, top, left + size, top + size)))


def floor() -> Pipeline:
    import simplejpeg  # noqa: PLC0415 - of the bench alone

    return lambda body: simplejpeg.decode_jpeg(body, "gray", min_height=1, min_width=1, min_factor=1)


def torchvision() -> Pipeline:
    import torch  # noqa: PLC0415 - seconds to load, and not always there
    from torchvision.io import ImageReadMode, decode_jpeg  # noqa: PLC0415 - as above
    from torchvision.transforms import v2  # noqa: PLC0415 - as above

    torch.set_num_threads(1)
    rule = v2.Compose([v2.Resize(GEOMETRY.resize_short_side, antialias=True), v2.CenterCrop(GEOMETRY.input_size)])
    return lambda body: rule(decode_jpeg(torch.frombuffer(bytearray(body), dtype=torch.uint8), ImageReadMode.RGB))


def opencv() -> Pipeline:
    import cv2  # noqa: PLC0415 - of the bench alone

    cv2.setNumThreads(1)

    def decode(body: bytes) -> object:
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR_RGB)
        short, size = GEOMETRY.resize_short_side, GEOMETRY.input_size
        factor = short / min(image.shape[:2])
        width, height = round(image.shape[1] * factor), round(image.shape[0] * factor)
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        left, top = (width - size) // 2, (height - size) // 2
        return small[top : top + size, left : left + size].copy()

    return decode


def pipelines() -> dict[str, Pipeline]:
    """What is installed, the floor first."""
    found: dict[str, Pipeline] = {"prepare": ours, "prepare exact": exact, "plain Pillow": plain_pillow}
    for name, make in (("floor", floor), ("torchvision", torchvision), ("OpenCV", opencv)):
        try:
            found[name] = make()
        except ImportError as missing:
            print(f"without {name}: {missing}; install requirements/bench.txt and requirements/training.txt")
    return found


def originals(folder: Path | None) -> list[Image.Image]:
    """The twelve largest photos of a folder, or none."""
    found = []
    for path in sorted(folder.rglob("*")) if folder else ():
        try:
            with Image.open(path, formats=_READ) as image:
                if image.mode == "RGB" and min(image.size) >= 500:
                    found.append((image.width * image.height, path))
        except (UnidentifiedImageError, OSError):
            continue
    return [Image.open(path, formats=_READ).convert("RGB") for _, path in sorted(found, reverse=True)[:12]]


def bodies_of(photos: list[Image.Image], width: int, height: int, quality: int, count: int) -> list[bytes]:
    bodies = []
    for number in range(count):
        if photos:
            image = photos[number % len(photos)]
            image = image.resize((width, height) if image.width >= image.height else (height, width))
        else:
            image = photo(width, height, seed=number)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        bodies.append(buffer.getvalue())
    return bodies


def rounds_of(found: dict[str, Pipeline], bodies: list[bytes], rounds: int) -> dict[str, float]:
    """Mean over photos of the median CPU milliseconds of each pipeline, in turns."""
    times: dict[str, list[list[float]]] = {name: [[] for _ in bodies] for name in found}
    for _ in range(rounds):
        for number, body in enumerate(bodies):
            for name, pipeline in found.items():
                started = time.thread_time()
                pipeline(body)
                times[name][number].append((time.thread_time() - started) * 1000)
    return {name: statistics.mean(map(statistics.median, photos)) for name, photos in times.items()}


def two_threads(bodies: list[bytes], rounds: int) -> float:
    """Photos a second with two threads by photos a second with one, medians of rounds in turns."""
    work = bodies * max(1, 96 // len(bodies))
    rates: dict[int, list[float]] = {1: [], 2: []}
    with ThreadPoolExecutor(2) as two, ThreadPoolExecutor(1) as one:
        for _ in range(rounds):
            for threads, pool in ((1, one), (2, two)):
                started = time.perf_counter()
                list(pool.map(ours, work))
                rates[threads].append(len(work) / (time.perf_counter() - started))
    return statistics.median(rates[2]) / statistics.median(rates[1])


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time of prepare as a share of the JPEG decoder's floor")
    parser.add_argument("--photos", type=Path, help="a folder of photos to make the classes of")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    photos = originals(options.photos)
    print(
        f"{platform.machine()}, Python {platform.python_version()}, Pillow {Image.__version__}, {len(photos)} originals"
    )
    found = pipelines()
    with SILENCE:
        for name, (width, height, quality, count) in CLASSES.items():
            bodies = bodies_of(photos, width, height, quality, count)
            times = rounds_of(found, bodies, options.rounds)
            print(f"\n{name}: {width}x{height}, {statistics.mean(map(len, bodies)) / 1000:.0f} kB on average")
            for pipeline, milliseconds in sorted(times.items(), key=lambda entry: entry[1]):
                share = f"{times['floor'] / milliseconds:6.2f} of the floor" if "floor" in times else ""
                print(f"  {pipeline:15}{milliseconds:8.2f} ms {share}")
            times_one = two_threads(bodies, options.rounds)
            print(f"  prepare in two threads: {times_one:.2f} times one; least share {LEAST[name]}, least 1.9 times")


if __name__ == "__main__":
    main()
