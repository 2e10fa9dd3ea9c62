"""The demo as a user runs it: the command, its exit code, what it prints, its gallery, and what it leaves behind."""

import html
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from consumer.demo.photos import SAMPLES, SUFFIXES
from consumer.embedded import leftovers
from consumer.embedded.kafka import INSTALL_COMMAND

ROOT = Path(__file__).resolve().parents[2]
REASONS = {
    "missing-photo": "http_4xx",
    "truncated-photo": "corrupt_image",
    "decompression-bomb": "too_many_pixels",
    "login-page": "unsupported_format",
}
ODD_NAMES = (
    "tea & cake.jpg",
    "caf\u00e9 #2.JPEG",
    "100%.png",
    "%41.webp",
    "a?b=c.gif",
    "\u5199\u771f.jpg",
    "<b>.jpg",
    "sub dir/x+y.PNG",
)
TIMEOUT_S = 110

pytestmark = pytest.mark.timeout(240)


class Demo:
    """A running demo whose temporary files are all in one folder of ours."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.output = folder / "output"
        self._temp = folder / "temp"
        self._temp.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "consumer.cli", "demo", "--output", str(self.output), *options],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(self._temp), "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            # As in a terminal's job: a signal that ends the test run does not reach it by itself.
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            self.lines.extend(iter(stream.readline, ""))

    @property
    def said(self) -> str:
        return "".join([*self.lines])

    @property
    def page(self) -> str:
        return (self.output / "gallery.html").read_text(encoding="utf-8")

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        code = self.process.wait(timeout_s)
        self._reader.join(5)
        return code

    def runs(self) -> list[str]:
        """The names of its runs of embedded servers, of which everything that they leave behind is marked."""
        return [entry.name for entry in self._temp.iterdir() if entry.name.startswith("photo-tagger-")]

    def left_behind(self, runs: list[str]) -> list[str]:
        shared = [entry.name for entry in leftovers.SHARED_MEMORY.iterdir() if entry.name.startswith(tuple(runs))]
        processes = [f"process {pid}" for run in runs for pid in leftovers.marked_pids(run)]
        return [*(entry.name for entry in self._temp.iterdir()), *shared, *processes]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    demos: list[Demo] = []

    def starter(*options: str) -> Demo:
        demos.append(Demo(tmp_path, *options))
        return demos[-1]

    yield starter
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.wait()


def until(condition: Callable[[], object], timeout_s: float, what: Callable[[], str]) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, what()
        time.sleep(0.05)


def photos_in(page: str) -> list[str]:
    return [html.unescape(name) for name in re.findall(r'<li class="photo"[^>]* data-name="([^"]*)"', page)]


def reasons_in(page: str) -> dict[str, str]:
    letters = re.findall(r'<li data-dead="([^"]*)">.*?<code class="reason">([^<]*)</code>', page, re.DOTALL)
    return {html.unescape(photo_id): reason for photo_id, reason in letters}


def jpeg(colour: str, form: str = "JPEG") -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (320, 240), colour).save(body, form)
    return body.getvalue()


def test_the_demo_tags_every_sample_and_shows_why_the_others_failed(start: Callable[..., Demo]) -> None:
    demo = start()
    assert demo.wait() == 0, demo.said
    samples = sorted(path.name for path in SAMPLES.iterdir() if path.suffix in SUFFIXES)
    assert samples
    assert sorted(photos_in(demo.page)) == samples
    assert reasons_in(demo.page) == REASONS
    assert f"tagged {len(samples)} \u00b7 dead-lettered 4 \u00b7 " in demo.said
    assert re.search(r"photos/s \u00b7 event to tag p50 \d+ ms, p95 \d+ ms", demo.said)
    assert (demo.output / "gallery.html").as_uri() in demo.said
    assert "make demo PHOTOS=" in demo.said
    assert (demo.output / "logs" / "service.log").is_file()
    assert demo.left_behind([]) == []


def test_photos_with_odd_names_are_tagged_on_the_mock_broker_which_is_said(
    start: Callable[..., Demo], tmp_path: Path
) -> None:
    mine = tmp_path / "my photos #1"
    for name in ODD_NAMES:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_bytes(jpeg("teal"))
    (mine / "broken.jpg").write_bytes(jpeg("red")[:300])
    (mine / "notes.txt").write_text("not a photo")
    demo = start("--photos", str(mine), "--kafka", "mock")
    assert demo.wait() == 0, demo.said
    assert sorted(photos_in(demo.page)) == sorted(ODD_NAMES)
    assert reasons_in(demo.page) == {**REASONS, "broken": "corrupt_image"}
    (notice,) = [line for line in demo.lines if "mock broker" in line]
    assert INSTALL_COMMAND in notice
    assert INSTALL_COMMAND in demo.page


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_photos_is_an_error_that_names_it(
    start: Callable[..., Demo], tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty").mkdir()
    demo = start("--photos", str(tmp_path / name))
    assert demo.wait(20) == 2
    assert str(tmp_path / name) in demo.said
    assert "Traceback" not in demo.said
    assert not demo.output.exists()


@pytest.mark.parametrize("moment", ["Redis answers", "the service is ready"])
def test_ctrl_c_ends_it_within_30_s_and_nothing_is_left(start: Callable[..., Demo], moment: str) -> None:
    demo = start("--kafka", "mock")
    until(lambda: moment in demo.said or demo.process.poll() is not None, TIMEOUT_S, lambda: demo.said)
    runs = demo.runs()
    assert runs
    demo.process.send_signal(signal.SIGINT)
    assert demo.wait(30) == 130, demo.said
    assert "Traceback" not in demo.said
    assert demo.left_behind(runs) == []


def test_sigkill_leaves_nothing(start: Callable[..., Demo]) -> None:
    demo = start("--kafka", "mock")
    until(lambda: "the service is ready" in demo.said or demo.process.poll() is not None, TIMEOUT_S, lambda: demo.said)
    runs = demo.runs()
    assert runs
    demo.process.kill()
    until(lambda: not demo.left_behind(runs), 30, lambda: f"left behind: {demo.left_behind(runs)}")
