"""What the dearest photos cost, beside the estimate of `consumer/cost.py`: `python -m benchmarks.decode_costs`.

Each file is decoded in a process of its own, without limits, three times; the least CPU time and the growth of the peak
of memory are shown. A cost above its estimate means that a weight is too small.
"""

import os
import resource
import sys
import time
from collections.abc import Iterator

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
    large = photo(4000, 3000)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8))
    yield "jpeg, 12 MP photo", encoded(large, "JPEG", quality=90)
    yield "jpeg, 12 MP photo, progressive", encoded(large, "JPEG", quality=90, progressive=True)
    for bits, colour, name in ((8, 2, "RGB"), (8, 6, "RGBA"), (16, 2, "RGB16"), (16, 6, "RGBA16"), (16, 0, "grey16")):
        yield f"png, 50 MP of {name}", even_png(SIDE, SIDE, bits, colour, kind=4)
    clear = chunk(b"tRNS", b"\0\1")
    yield "png, 50 MP of grey16, one transparent", even_png(SIDE, SIDE, 16, 0, clear, kind=4)
    yield "gif, 50 MP", encoded(Image.new("P", (SIDE, SIDE)), "GIF")
    black, alpha = Image.new("RGB", (SIDE, SIDE)), Image.new("RGBA", (SIDE, SIDE), (1, 2, 3, 4))
    yield "webp, 50 MP, lossless", encoded(black, "WEBP", lossless=True, quality=0, method=0)
    yield "webp, 50 MP with alpha", encoded(alpha, "WEBP", lossless=True, quality=0, method=0)
    yield "webp, 12 MP photo", encoded(large, "WEBP", quality=80, method=0)
    yield "webp, 12 MP of noise", encoded(noise, "WEBP", quality=95, method=0)
    yield "avif, 50 MP", encoded(black, "AVIF", speed=10)
    yield "avif, 50 MP with alpha", encoded(alpha, "AVIF", speed=10, subsampling="4:4:4")
    yield "avif, 12 MP photo", encoded(large, "AVIF", quality=60, speed=10)
    yield "avif, 12 MP of noise, 4:4:4", encoded(noise, "AVIF", quality=90, speed=10, subsampling="4:4:4")


def measure(name: str, body: bytes) -> None:
    """Prints the row of one file."""
    header = inspect(body, GEOMETRY, LIMITS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(3):
        started = time.process_time()
        try:
            decode(body, GEOMETRY, LIMITS)
        except PhotoRejected as rejected:
            name += f" ({rejected.reason})"
            break
        times.append(time.process_time() - started)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{name:40}{len(body) / 1e6:8.2f} MB {min(times, default=0.0):6.2f} s of {header.cost.cpu_s:5.2f} s "
        f"{grown:7.0f} MiB of {header.cost.memory_bytes / 2**20:5.0f} MiB"
    )
    sys.stdout.flush()


def main() -> None:
    for name, body in files():
        child = os.fork()
        if not child:
            measure(name, body)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
