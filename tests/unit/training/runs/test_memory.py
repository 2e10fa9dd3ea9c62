"""Freed memory stays with the process: tensors of the next step cost no page faults."""

import platform
import resource
import subprocess
import sys

import pytest

_BYTES = 48 << 20
_COUNT = f"""
import resource, sys, threading
from concurrent.futures import ThreadPoolExecutor
from training.runs.memory import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
both = threading.Barrier(2)  # each step takes as much as the one before

def take(count):
    blocks = [bytearray(1 << 20) for _ in range(count)]
    both.wait(60)

for step in range(10):
    if step == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    if sys.argv[2] == "main":
        bytearray({_BYTES})
    else:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(take, [100, 100]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str, where: str) -> int:
    argv = [sys.executable, "-c", _COUNT, how, where]
    return int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
@pytest.mark.parametrize("where", ["main", "threads"])
def test_a_step_takes_the_memory_that_the_last_one_freed(where: str) -> None:
    pages = _BYTES // resource.getpagesize()
    assert _faults("free", where) > 7 * pages
    assert _faults("keep", where) < pages // 8
