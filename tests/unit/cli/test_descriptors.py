import subprocess
import sys
from pathlib import Path

import pytest

#: Closes standard descriptors, does as the console script does first, and opens a file as a socket would be.
SCRIPT = """
import os, sys
from consumer.cli import main
for descriptor in map(int, sys.argv[2:]):
    os.close(descriptor)
main.app = lambda: None
main.main()
with open(sys.argv[1], "w") as opened:
    opened.write(str(opened.fileno()))
os.write(2, b"a line of some library")
"""


@pytest.mark.parametrize("closed", [[], ["0"], ["1"], ["2"], ["0", "1", "2"]])
def test_no_file_and_no_socket_gets_the_number_of_a_standard_descriptor(tmp_path: Path, closed: list[str]) -> None:
    told = tmp_path / "told"
    command = [sys.executable, "-c", SCRIPT, str(told), *closed]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0
    assert int(told.read_text()) > 2
