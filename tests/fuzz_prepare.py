"""Coverage-guided fuzzing of the decode: `make fuzz SECONDS=60`. Whatever is no single, named outcome is a finding.

Atheris mutates small files of every format and follows the branches of our code and of Pillow's readers, which are
instrumented as they are imported; the decoders in C are not, but a crash or a hang of theirs is caught as well. The
file of a finding is saved in `fuzz-findings/`, and the run fails.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["consumer", "PIL"]):
    from consumer.contract import Geometry
    from consumer.errors import PermanentReason, PhotoRejected
    from consumer.imaging.decode import SILENCE, decode
    from consumer.imaging.limits import PrepareLimits

from typing import get_args

from tests.hostile import files, seeds

FINDINGS: Final = Path("fuzz-findings")
SHARED: Final = Path(__file__).parents[2] / "shared" / "data"
MAX_SEED_BYTES: Final = 20_000
CPU_S: Final = 2.0
GEOMETRY: Final = Geometry(input_size=32, resize_short_side=36)
#: Small, so that the time goes into many files and not into large ones.
LIMITS: Final = PrepareLimits(max_pixels=1_000_000, icc="srgb")
REASONS: Final = frozenset(get_args(PermanentReason))


def one_outcome(body: bytes) -> None:
    started = time.process_time()
    try:
        pixels = decode(body, [GEOMETRY], LIMITS).views[GEOMETRY]
    except PhotoRejected as rejected:
        if rejected.reason not in REASONS:
            raise
    else:
        if pixels.shape != (32, 32, 3):
            raise AssertionError(pixels.shape)
    if time.process_time() - started > CPU_S:
        raise TimeoutError(f"{time.process_time() - started:.1f} s")


def write_seeds(folder: Path) -> int:
    """Small files to start from: the tests' own, sound and hostile, and what lies beside the checkout."""
    bodies = [*seeds().values(), *(file.body for file in files() if len(file.body) <= MAX_SEED_BYTES)]
    found = sorted(path for path in SHARED.glob("*/**/*") if path.is_file() and path.stat().st_size <= MAX_SEED_BYTES)
    bodies += [path.read_bytes() for path in found if "brands" not in path.parts]
    for number, body in enumerate(bodies):
        (folder / f"{number:05d}").write_bytes(body)
    return len(bodies)


def main() -> None:
    seconds = int(sys.argv[1])
    FINDINGS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as corpus, SILENCE:
        sys.stderr.write(f"{write_seeds(Path(corpus))} seeds\n")
        options = [
            f"-max_total_time={seconds}", "-timeout=25", "-rss_limit_mb=2000", "-max_len=40000", "-print_final_stats=1",
            f"-artifact_prefix={FINDINGS}/",
        ]  # fmt: skip
        atheris.Setup([sys.argv[0], *options, corpus], one_outcome)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
