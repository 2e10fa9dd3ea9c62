"""What `import consumer.reader` costs another team's service: the client of Redis, and next to nothing more."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Printed: seconds of `import redis`, seconds of the reader after it, and the modules that the reader added.
_MEASURE = """
import json, sys, time
began = time.perf_counter()
import redis
between, known = time.perf_counter(), set(sys.modules)
import consumer.reader
print(json.dumps([between - began, time.perf_counter() - between, sorted(set(sys.modules) - known)]))
"""


def measure() -> tuple[float, float, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    redis_s, reader_s, modules = json.loads(done.stdout)
    return redis_s, reader_s, modules


def test_the_reader_imports_nothing_but_redis_and_the_standard_library() -> None:
    _, _, added = measure()
    packages = {name.partition(".")[0] for name in added}
    assert "consumer" in packages
    assert packages - {"consumer"} <= sys.stdlib_module_names
    assert len(added) <= 50


def test_the_reader_is_imported_in_a_fraction_of_the_time_of_redis() -> None:
    # The best of three: a busy machine makes an import slower, never faster. Measured: 0.28 s and 0.01 s.
    assert min(reader_s - max(0.15, 0.5 * redis_s) for redis_s, reader_s, _ in (measure() for _ in range(3))) < 0
