"""Decodes hostile files in a process of its own and prints a JSON line for each: what a test cannot survive, it can.

`python -m tests.hostile_child made` takes the files of `tests/hostile.py`, any other arguments are files and folders.
A line with a name alone comes before the decode, so that a crash or a hang has a name.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from consumer.contract import Geometry
from consumer.errors import PhotoRejected
from consumer.imaging.decode import SILENCE, decode
from consumer.imaging.limits import PrepareLimits
from tests.hostile import HostileFile, files

GEOMETRY = Geometry(input_size=224, resize_short_side=232)
#: A busy neighbour makes CPU time longer, by half and more: what is slow is measured once more.
SLOW_S = 1.5


def outcome_of(body: bytes) -> tuple[str, float]:
    started = time.process_time()
    try:
        pixels = decode(body, [GEOMETRY], PrepareLimits()).views[GEOMETRY]
    except PhotoRejected as rejected:
        outcome = rejected.reason
    else:
        outcome = "pixels" if pixels.shape == (224, 224, 3) else f"pixels of {pixels.shape}"
    return outcome, time.process_time() - started


def given(places: list[str]) -> Iterator[HostileFile]:
    if places == ["made"]:
        yield from files()
        return
    for place in map(Path, places):
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                yield HostileFile(str(path), path.read_bytes())


def peak_bytes() -> int:
    """The largest memory of this process; getrusage would start with that of the process which started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    outcome_of(b"\xff\xd8\xff")  # what is loaded at the first use is nobody's time
    with SILENCE:
        for file in given(sys.argv[1:]):
            say({"name": file.name})
            outcome, cpu_s = outcome_of(file.body)
            if cpu_s > SLOW_S:
                cpu_s = min(cpu_s, outcome_of(file.body)[1])
            right = file.outcomes is None or outcome in file.outcomes
            found = {"name": file.name, "outcome": outcome, "cpu_s": cpu_s, "peak_bytes": peak_bytes(), "right": right}
            say(found)


if __name__ == "__main__":
    main()
