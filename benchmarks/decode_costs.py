"""What photos cost beside the estimate of `consumer/imaging/cost.py`: `python -m benchmarks.decode_costs`.

The dearest content that was found for each format, and photos as large as phones make them. Each file is made and
decoded in a process of its own, without limits, three times; the least CPU time and the growth of the peak of memory
are shown. A cost above its estimate means that a weight is too small.
"""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from consumer.contract import Geometry
from consumer.errors import PhotoRejected
from consumer.imaging.decode import decode
from consumer.imaging.limits import PrepareLimits
from tests.hostile_parts import FULL, chunk, even_png, frame, jpeg, scan, scan_bomb
from tests.unit.photos import encoded, inspect, photo

GEOMETRY = Geometry(input_size=224, resize_short_side=232)
LIMITS = PrepareLimits(max_scans=10**6, max_decode_bytes=10**12, max_decode_cpu_s=1e9, max_pixels=10**9)
SIDE = 7064


def files() -> Iterator[tuple[str, bytes]]:
    yield "jpeg, 50 MP of nothing", jpeg(frame(0xC0, SIDE, SIDE), scan([1, 2, 3], 0, 63))
    yield "jpeg, 50 MP, 10 refining scans", scan_bomb(SIDE, SIDE, 10)
    yield "jpeg, 50 MP, 40 refining scans", scan_bomb(SIDE, SIDE, 40)
    cmyk = jpeg(frame(0xC2, SIDE, SIDE, (*FULL, (4, 0x11))), scan([1, 2, 3, 4], 0, 0))
    yield "jpeg, 50 MP, progressive CMYK", cmyk
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8))
    for bits, colour, name in ((8, 2, "RGB"), (8, 6, "RGBA"), (16, 2, "RGB16"), (16, 6, "RGBA16"), (16, 0, "grey16")):
        yield f"png, 50 MP of {name}", even_png(SIDE, SIDE, bits, colour, kind=4)
    clear = chunk(b"tRNS", b"\0\1")
    yield "png, 50 MP of grey16, one transparent", even_png(SIDE, SIDE, 16, 0, clear, kind=4)
    yield "gif, 50 MP", encoded(Image.new("P", (SIDE, SIDE)), "GIF")
    black, alpha = Image.new("RGB", (SIDE, SIDE)), Image.new("RGBA", (SIDE, SIDE), (1, 2, 3, 4))
    yield "webp, 50 MP, lossless", encoded(black, "WEBP", lossless=True, quality=0, method=0)
    yield "webp, 50 MP with alpha", encoded(alpha, "WEBP", lossless=True, quality=0, method=0)
    yield "webp, 12 MP of noise", encoded(noise, "WEBP", quality=95, method=0)
    yield "avif, 50 MP", encoded(black, "AVIF", speed=10)
    yield "avif, 50 MP with alpha", encoded(alpha, "AVIF", speed=10, subsampling="4:4:4")
    yield "avif, 12 MP of noise, 4:4:4", encoded(noise, "AVIF", quality=90, speed=10, subsampling="4:4:4")


#: Photos as phones make them, by their megapixels.
PHONES = {12: (4000, 3000), 50: (8192, 6144), 64: (9248, 6936), 108: (12_000, 9000), 200: (16_320, 12_240)}
#: By format and megapixels: how they are written.
USUAL: dict[str, tuple[str, tuple[int, ...], dict[str, object]]] = {
    "jpeg": ("JPEG", (12, 50, 64, 108, 200), {"quality": 80}),
    "progressive jpeg": ("JPEG", (12, 50, 64, 108, 200), {"quality": 80, "progressive": True}),
    "png": ("PNG", (12, 50, 64), {"compress_level": 3}),
    "webp": ("WEBP", (12, 50, 64), {"quality": 80, "method": 0}),
    "avif": ("AVIF", (12, 50, 64), {"quality": 60, "speed": 10}),
}


def large_photo(width: int, height: int) -> Image.Image:
    """Copies of a photo side by side, with noise, so that they do not compress as copies do."""
    tile = np.asarray(photo(2048, 1536))
    noise = np.random.default_rng(0)
    whole = Image.new("RGB", (width, height))
    for top in range(0, height, 1536):
        row = np.concatenate([tile] * (width // 2048 + 1), axis=1)
        row = row // 8 * 7 + noise.integers(0, 8, row.shape, dtype=np.uint8)
        whole.paste(Image.fromarray(row), (0, top))
    return whole


def usual() -> Iterator[tuple[str, bytes]]:
    for name, (form, sizes, options) in USUAL.items():
        for size in sizes:
            with ProcessPoolExecutor(1) as maker:
                yield f"{name}, {size} MP photo", maker.submit(written, PHONES[size], form, options).result()


def written(size: tuple[int, int], form: str, options: dict[str, object]) -> bytes:
    return encoded(large_photo(*size), form, **options)


def memory_bytes(which: str) -> int:
    """`VmRSS`, or the peak `VmHWM`, which after a fork starts anew, as that of getrusage does not."""
    return int(Path("/proc/self/status").read_text(encoding="ascii").partition(which)[2].split()[1]) * 1024


def measure(name: str, body: bytes) -> None:
    """Prints the row of one file."""
    header = inspect(body, GEOMETRY, LIMITS)
    before = memory_bytes("VmRSS")
    times = []
    for _ in range(3):
        started = time.process_time()
        try:
            decode(body, [GEOMETRY], LIMITS)
        except PhotoRejected as rejected:
            name += f" ({rejected.reason})"
            break
        times.append(time.process_time() - started)
    grown = (memory_bytes("VmHWM") - before) / 2**20
    print(
        f"{name:40}{len(body) / 1e6:8.2f} MB {min(times, default=0.0):6.2f} s of {header.cost.cpu_s:5.2f} s "
        f"{grown:7.0f} MiB of {header.cost.memory_bytes / 2**20:5.0f} MiB"
    )
    sys.stdout.flush()


def main() -> None:
    for name, body in chain(usual(), files()):
        child = os.fork()
        if not child:
            measure(name, body)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
