"""The commands of docs/quick-start.md, run as they stand in the page, beside the demo that it starts."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness_process import ROOT

PAGE = (ROOT / "docs" / "quick-start.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
#: Both are about a minute on two cores that ten others use as well.
STARTS_S = 120
RUNS_S = 240


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder in which the demo of `make demo KEEP=1` runs, until the test ends."""
    command = [sys.executable, "-m", "consumer.cli", "demo", "--output", "demo-output", "--keep"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        (tmp_path / "said").open("wb") as said,
        subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=said, stderr=said) as demo,
    ):
        try:
            ready = tmp_path / "demo-output" / "env.sh"
            deadline = time.monotonic() + STARTS_S
            while not ready.is_file() and demo.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            assert ready.is_file(), (tmp_path / "said").read_text()
            yield tmp_path
        finally:
            demo.send_signal(signal.SIGTERM)
            demo.wait(30)


@pytest.mark.timeout(STARTS_S + RUNS_S + 60)
def test_every_command_of_the_quick_start_does_what_the_page_says(folder: Path) -> None:
    marked = "".join(f"{block}echo '-- {number}'\n" for number, block in enumerate(BLOCKS))
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["bash", "-euo", "pipefail", "-c", marked]
    ran = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=RUNS_S)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    _, reads, sends, failed, changes, _ = re.split(r"-- \d\n", ran.stdout)
    assert '"brand":"puma"' in reads
    assert '"state":"deleted"' in sends.splitlines()[-1]
    assert len(re.findall('"letter_id":|"id":', failed)) >= 4
    assert json.loads(changes.splitlines()[-1])["models"] == {"brand_logo": "1", "photo_quality": "1"}
