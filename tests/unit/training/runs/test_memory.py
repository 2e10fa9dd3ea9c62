"""Freed memory stays with the process: tensors of the next step cost no page faults."""

import platform
import resource
import subprocess
import sys

import pytest

_BYTES = 48 << 20
_COUNT = f"""
import resource, sys
from training.runs.memory import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
for step in range(10):
    if step == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray({_BYTES})
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", _COUNT, how], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_step_takes_the_memory_that_the_last_one_freed() -> None:
    pages = _BYTES // resource.getpagesize()
    assert _faults("free") > 7 * pages
    assert _faults("keep") < pages // 8
