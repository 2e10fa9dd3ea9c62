"""The demo as a user runs it: the command, its exit code, what it prints, its gallery, and what it leaves behind."""

import html
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image

from consumer.demo.photos import SAMPLES, SUFFIXES
from consumer.embedded import leftovers
from tests.harness import headers_of, read_topic
from tests.harness_process import photo_tagger
from tests.tiny_models import publish_brand, publish_quality

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
TIMEOUT_S = 150

pytestmark = pytest.mark.timeout(240)


class Demo:
    """A running demo whose temporary files are all in one folder of ours."""

    def __init__(self, folder: Path, *options: str, background: bool = False) -> None:
        self.output = folder / "output"
        self._temp = folder / "temp"
        self._temp.mkdir()
        self.process = subprocess.Popen(
            # As `make demo` does it: with a relative output folder.
            [sys.executable, "-m", "consumer.cli", "demo", "--output", os.path.relpath(self.output, ROOT), *options],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(self._temp), "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            # As in a terminal's job: a signal that ends the test run does not reach it by itself.
            start_new_session=True,
            # A shell without job control lets a background job ignore Ctrl-C.
            preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if background else None,  # noqa: PLW1509
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

    @property
    def change(self) -> dict[str, Any]:
        """What the page of the change says, as numbers."""
        found: dict[str, Any] = json.loads((self.output / "change.json").read_bytes())
        return found

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

    def starter(*options: str, background: bool = False) -> Demo:
        demos.append(Demo(tmp_path, *options, background=background))
        return demos[-1]

    yield starter
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.wait()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Options of a demo with two versions of models that load in a second, where it does not matter what they say."""
    repository = tmp_path_factory.mktemp("models")
    for scale in (1.0, 0.5):
        publish_quality(repository, scale)
        publish_brand(repository, scale)
    return "--models", str(repository)


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

    share = demo.change["changes"]["any"]
    said = f"{share['count']} of {share['of']} photos change"
    assert share["of"] == len(samples)
    (line,) = [line for line in demo.lines if line.startswith("change ")]
    assert (demo.output / "change.html").as_uri() in line
    assert said in line
    assert f'Release 2 came into force at the end of the demo: <a href="change.html">{said}</a>' in demo.page
    assert "release <b>2</b>" in demo.page
    for model, (_, newest) in versions_published().items():
        assert f"{model} <b>v{newest}</b>" in demo.page
    page = (demo.output / "change.html").read_text(encoding="utf-8")
    assert said in page
    assert "data:image/jpeg" in page


def versions_published() -> dict[str, tuple[str, str]]:
    """Of each model in git the version before the newest, and the newest."""
    found = {}
    for model in ("brand_logo", "photo_quality"):
        numbers = sorted(int(each.name) for each in (ROOT / "triton_models" / model).iterdir() if each.name.isdecimal())
        found[model] = (str(numbers[-2]), str(numbers[-1]))
    return found


def test_photos_with_odd_names_are_tagged_on_the_mock_broker_which_is_said(
    start: Callable[..., Demo], tiny: tuple[str, str], tmp_path: Path
) -> None:
    mine = tmp_path / "my photos #1"
    for name in ODD_NAMES:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_bytes(jpeg("teal"))
    (mine / "broken.jpg").write_bytes(jpeg("red")[:300])
    (mine / "notes.txt").write_text("not a photo")
    demo = start("--photos", str(mine), "--kafka", "mock", *tiny)
    assert demo.wait() == 0, demo.said
    assert sorted(photos_in(demo.page)) == sorted(ODD_NAMES)
    assert reasons_in(demo.page) == {**REASONS, "broken": "corrupt_image"}
    assert sum("no change of models is shown" in line for line in demo.lines) == 1
    assert not list(demo.output.glob("change.*"))
    (notice,) = [line for line in demo.lines if "mock broker" in line]
    # Java and Maven are there: nobody is told to install them.
    assert "apt-get" not in notice
    assert "--kafka real" in notice
    assert notice.removeprefix("! ").strip()[:60] in html.unescape(demo.page)


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_photos_is_an_error_that_names_it(
    start: Callable[..., Demo], tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty").mkdir()
    demo = start("--photos", str(tmp_path / name))
    assert demo.wait(20) == 3
    assert str(tmp_path / name) in demo.said
    assert "Traceback" not in demo.said
    assert not demo.output.exists()


@pytest.mark.parametrize(
    ("kafka", "moment"),
    # The last one is in the change of models: the worker of a run takes the signals for itself.
    [("mock", "Redis answers"), ("mock", "the service is ready"), ("real", "service.started")],
)
def test_ctrl_c_ends_it_within_30_s_and_nothing_is_left(
    start: Callable[..., Demo], tiny: tuple[str, str], kafka: str, moment: str
) -> None:
    demo = start("--kafka", kafka, *tiny)
    log = demo.output / "logs" / "change.log"

    def reached() -> bool:
        return moment in demo.said or (log.is_file() and moment in log.read_text(encoding="utf-8"))

    until(lambda: reached() or demo.process.poll() is not None, TIMEOUT_S, lambda: demo.said)
    runs = demo.runs()
    assert runs
    demo.process.send_signal(signal.SIGINT)
    assert demo.wait(30) == 130, demo.said
    assert "Traceback" not in demo.said
    assert demo.left_behind(runs) == []


def test_a_change_that_fails_loses_nothing_else(
    start: Callable[..., Demo], tiny: tuple[str, str], tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a.jpg").write_bytes(jpeg("teal"))
    demo = start("--kafka", "real", "--photos", str(mine), *tiny)
    until(lambda: "Redis answers" in demo.said or demo.process.poll() is not None, TIMEOUT_S, lambda: demo.said)
    (demo.output / "change.json").mkdir()  # where a file is to be written
    assert demo.wait() == 1, demo.said
    assert photos_in(demo.page) == ["a.jpg"]
    assert reasons_in(demo.page) == REASONS
    assert "release <b>1</b>" in demo.page
    assert "change.html" not in demo.page
    (line,) = [line for line in demo.lines if "failed" in line]
    assert str(demo.output / "change.json") in line
    assert "Traceback" not in demo.said
    assert demo.left_behind([]) == []


def test_sigkill_leaves_nothing(start: Callable[..., Demo], tiny: tuple[str, str]) -> None:
    demo = start("--kafka", "mock", *tiny)
    until(lambda: "the service is ready" in demo.said or demo.process.poll() is not None, TIMEOUT_S, lambda: demo.said)
    runs = demo.runs()
    assert runs
    demo.process.kill()
    until(lambda: not demo.left_behind(runs), 30, lambda: f"left behind: {demo.left_behind(runs)}")


def tagged_in(page: str) -> dict[str, tuple[float, list[str]]]:
    """What the gallery shows of each photo by its id: quality score, and brands in order."""
    cards = re.findall(r'<li class="photo" data-photo="([^"]*)"[^>]* data-score="([^"]*)"(.*?)</li>', page, re.DOTALL)
    return {
        html.unescape(photo_id): (float(score), re.findall(r'<span class="chip [^>]*>(.*?) <b>', body))
        for photo_id, score, body in cards
    }


def test_redis_both_topics_and_the_gallery_agree_and_a_replay_changes_nothing(start: Callable[..., Demo]) -> None:
    demo = start("--kafka", "real", "--keep", "--json")
    environment = demo.output / "env.sh"
    until(lambda: environment.is_file() or demo.process.poll() is not None, TIMEOUT_S, lambda: demo.said)
    until(lambda: demo.said.endswith("}\n"), TIMEOUT_S, lambda: demo.said)
    assert "until Ctrl-C" in demo.said
    outcome = json.loads(demo.lines[-1])
    assert (outcome["environment"], outcome["problems"]) == (str(environment), [])
    assert outcome["gallery"] == str(demo.output / "gallery.html")
    assert f"tagged {outcome['tagged']} · dead-lettered {outcome['dead_lettered']} · " in demo.said
    pairs = (line.removeprefix("export ").split("=", 1) for line in environment.read_text().splitlines())
    settings = {name: value for name, value in pairs if name.startswith("TAGGER_")}
    kafka, redis_url = settings["TAGGER_KAFKA__BOOTSTRAP_SERVERS"], settings["TAGGER_REDIS__URL"]

    results = [
        (message.key().decode(), json.loads(message.value()))
        for message in read_topic(kafka, settings["TAGGER_KAFKA__TAGS_TOPIC"])
    ]
    first, published = dict(reversed(results)), dict(results)
    dead = {
        message.key().decode(): headers_of(message)["reason"]
        for message in read_topic(kafka, settings["TAGGER_KAFKA__DEAD_TOPIC"])
    }
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        stored = {key.split("}:", 1)[1]: client.hgetall(key) for key in client.keys("p:*")}
    before = raw_dump(redis_url)
    shown = tagged_in(demo.page)
    assert shown.keys() == published.keys() == stored.keys()
    assert dead == reasons_in(demo.page) == REASONS
    for photo_id, (score, brands) in shown.items():
        tags, fields = published[photo_id], stored[photo_id]
        assert tags["quality"]["score"] == float(fields["q"]) == score
        assert [brand["brand"] for brand in tags["brands"]] == json.loads(fields["brands"]) == brands

    assert photo_tagger("ready", env={**os.environ, **settings}).returncode == 0
    until(lambda: tagged_in(served_in(demo.said)) == shown, TIMEOUT_S, lambda: "the web page shows other tags")

    before_it, newest = ({model: pair[at] for model, pair in versions_published().items()} for at in (0, 1))
    for tags, number, models in [(first, 1, before_it), (published, 2, newest)]:
        assert {(each["version"].split(".")[1], *sorted(each["models"].items())) for each in tags.values()} == {
            (f"{number:06d}", *sorted(models.items()))
        }
    changed = [photo_id for photo_id in published if verdict(first[photo_id]) != verdict(published[photo_id])]
    assert demo.change["changes"]["any"]["count"] == len(changed) > 0

    ended = photo_tagger("replay", "--from", "1h", env={**os.environ, **settings})
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["outcomes"] == {"unchanged": len(shown), "dead_lettered": len(REASONS)}
    assert raw_dump(redis_url) == before

    runs = demo.runs()
    demo.process.send_signal(signal.SIGINT)
    assert demo.wait(30) == 0, demo.said
    assert not environment.exists()
    assert demo.left_behind(runs) == []


@pytest.mark.parametrize("moment", ["Redis answers", "the service is ready", "everything stays up"])
def test_a_background_job_ends_on_sigterm_and_nothing_is_left(
    start: Callable[..., Demo], tiny: tuple[str, str], moment: str
) -> None:
    demo = start("--kafka", "mock", "--keep", *tiny, background=True)
    until(lambda: moment in demo.said or demo.process.poll() is not None, TIMEOUT_S, lambda: demo.said)
    runs = demo.runs()
    assert runs
    demo.process.send_signal(signal.SIGTERM)
    assert demo.wait(30) == (0 if moment == "everything stays up" else 130), demo.said
    assert "Traceback" not in demo.said
    assert demo.left_behind(runs) == []
    assert not (demo.output / "env.sh").exists()


def served_in(said: str) -> str:
    """The first web page at the address that the demo prints."""
    found = re.search(r"web page +http://(127\.0\.0\.1:\d+)/", said)
    assert found is not None, said
    connection = http.client.HTTPConnection(found[1], timeout=30)
    try:
        connection.request("GET", "/?order=best")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def verdict(tags: dict[str, Any]) -> tuple[int, bool, set[str]]:
    return tags["quality"]["level"], tags["quality"]["good"], {brand["brand"] for brand in tags["brands"]}


def raw_dump(redis_url: str) -> dict[bytes, bytes]:
    """Every key of Redis with its serialised value."""
    with redis.Redis.from_url(redis_url) as client:
        return {key: client.dump(key) for key in client.keys("*")}
