"""`benchmarks/machine.py`: whose CPU time is whose."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import machine
from benchmarks.machine import Reading

BUSY = """
import time
while time.process_time() < 0.1: pass
print("done", flush=True)
input()
"""


def test_idle_and_waiting_time_is_not_busy_and_stolen_time_is_told_apart() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    fields = [1, 2, 4, 1000, 2000, 8, 16, 32, 1, 0]
    stat = "cpu  " + " ".join(str(value * ticks) for value in fields) + "\ncpu0 9 9 9 9 9 9 9 9 9 9\n"
    assert machine.totals(stat) == (1 + 2 + 4 + 8 + 16, 32)


def test_what_no_known_process_used_is_that_of_others() -> None:
    before = Reading(10.0, 100.0, 5.0, {"client": 1.0, "driver": 2.0})
    after = Reading(14.0, 107.0, 6.0, {"client": 3.0, "driver": 3.0})
    usage = machine.between(before, after)
    assert usage.used_s == {"client": 2.0, "driver": 1.0}
    assert usage.others == 1.0
    assert usage.stolen == 0.25


def test_counters_that_disagree_give_no_negative_load() -> None:
    assert machine.between(Reading(0, 0, 0, {"client": 0}), Reading(1, 1, 0, {"client": 2})).others == 0


def test_the_time_and_memory_of_children_count() -> None:
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        assert len(list(machine.tree(process.pid))) == 2
        assert machine.cpu_seconds(process.pid) >= 0.1
        assert machine.peak_mb(process.pid) > machine.peak_mb(list(machine.tree(process.pid))[1]) > 1
    finally:
        process.kill()
        process.communicate()


def test_a_process_that_is_gone_has_used_nothing() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert machine.cpu_seconds(process.pid) == machine.peak_mb(process.pid) == 0


def test_the_machine_is_described_with_what_it_lacks(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    core = "model name\t: A CPU: fast\ncpu family\t: 6\nmodel\t\t: 167\nflags\t\t: fpu avx2 avx512f avx512_vnni\n\n"
    cpuinfo.write_text(core * 2)
    said = machine.describe(cpuinfo)
    assert said.startswith(f"A CPU: fast, family 6 model 167; {machine.cores()} cores; has avx2, avx512f, avx512_vnni;")
    assert said.endswith("lacks avx_vnni, avx512_bf16, amx_int8")
    cpuinfo.write_text("Processor : none of these names\n")
    assert machine.describe(cpuinfo).startswith("unknown CPU")
