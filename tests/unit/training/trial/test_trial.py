"""The trial without Kafka: the draw is even, the sheet is blind, verdicts become a precision with its interval."""

import http.server
import io
import json
import random
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.read import read_bytes
from training.errors import DataError, RunError, Unreadable
from training.statistics import wilson
from training.trial import report, sheet
from training.trial.photos import Places, collect, shown
from training.trial.sheet import Key
from training.trial.topic import Draw, Tagged, tagged_of

TAGS = {
    "photo_id": "a",
    "quality": {"score": 0.75, "level": 4, "good": True},
    "models": {"photo_quality": "3"},
    "source": {"topic": "uploads", "partition": 1, "offset": 7},
    "tagged_at": "2026-11-26T10:00:00Z",
}


def photo(number: int, score: float | None = None) -> Tagged:
    score = number / 1000 if score is None else score
    return Tagged(f"photo-{number}", score, score >= 0.5, {"photo_quality": "3"}, ("uploads", 0, number))


def jpeg(colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (900, 600), colour).save(stream, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    return stream.getvalue()


def drawn_of(photos: list[Tagged], count: int, seed: int) -> set[str]:
    found = Draw(count, seed)
    for entry in photos:
        found.add(entry.photo_id, entry)
    return {entry.photo_id for entry in found.drawn()}


def test_a_draw_is_the_same_whatever_order_and_repeats_the_topic_has() -> None:
    photos = [photo(number) for number in range(9000)]
    wanted = drawn_of(photos, 50, seed=1)
    random.Random(0).shuffle(photos)
    assert drawn_of(photos + photos[:4000], 50, seed=1) == wanted
    assert drawn_of(photos, 50, seed=2) != wanted


def test_a_draw_is_even() -> None:
    photos = [photo(number) for number in range(400)]
    hits = np.zeros(400)
    for seed in range(400):
        for name in drawn_of(photos, 100, seed):
            hits[int(name.partition("-")[2])] += 1
    assert hits.sum() == 400 * 100
    assert hits.min() > 60  # 100 are expected, with a deviation of 8.7
    assert hits.max() < 145


def test_a_photo_counts_once_with_its_newest_tags_and_a_deleted_one_not_at_all() -> None:
    found = Draw(10, 0)
    found.add("photo-1", photo(1, 0.1))
    found.add("photo-2", photo(2, 0.2))
    found.add("photo-1", photo(1, 0.9))
    found.add("photo-2", None)
    assert [(entry.photo_id, entry.score) for entry in found.drawn()] == [("photo-1", 0.9)]


def test_deletions_far_down_the_topic_are_replaced() -> None:
    photos = [photo(number) for number in range(9000)]
    found = Draw(50, 3)
    for entry in photos:
        found.add(entry.photo_id, entry)
    gone = {entry.photo_id for entry in found.drawn()[:40]}
    for name in gone:
        found.add(name, None)
    assert len(found.drawn()) == 50
    assert {entry.photo_id for entry in found.drawn()} == drawn_of([p for p in photos if p.photo_id not in gone], 50, 3)


def test_a_record_is_read_or_refused() -> None:
    tagged, moment = tagged_of(json.dumps(TAGS).encode())
    assert tagged_of(b"\0\0\0\0\7" + json.dumps(TAGS).encode()) == (tagged, moment)
    assert tagged == Tagged("a", 0.75, True, {"photo_quality": "3"}, ("uploads", 1, 7))
    assert moment.isoformat() == "2026-11-26T10:00:00+00:00"
    for broken in (b"[]", b"nothing", b'{"photo_id": "a"}', json.dumps({**TAGS, "tagged_at": "today"}).encode()):
        with pytest.raises(ValueError, match=r".+"):
            tagged_of(broken)


def made_sheet(folder: Path, *, picks: int = 4, controls: int = 6) -> Key:
    photos = [photo(number) for number in range(400, 560)]
    picked, others = sheet.choose(photos, picks, controls, seed=5)
    assert [entry.score for entry in picked] == [0.559, 0.558, 0.557, 0.556][:picks]
    body = shown(jpeg())
    bodies = {entry.photo_id: body for part in (picked, others) for entry in part}
    return sheet.make(folder, photos, (picked, others), (bodies, {}), seed=5)


def test_the_sheet_says_nothing_of_photo_ids_scores_or_picks(tmp_path: Path) -> None:
    key = made_sheet(tmp_path)
    text = re.sub(r"base64,[^\"]+", "", (tmp_path / "sheet.html").read_text())
    assert "photo-" not in text.replace("photo-trial", "")
    assert "0.55" not in text
    assert "picked" not in text
    assert text.count("<figure") == 10
    assert all(entry.token in text for entry in key.entries)
    order = [entry.picked for entry in key.entries]
    assert order not in (sorted(order), sorted(order, reverse=True))
    assert sheet.read_key(tmp_path) == key


def test_the_sheet_needs_nothing_beside_it(tmp_path: Path) -> None:
    made_sheet(tmp_path)
    assert not re.search(r"(src|href)=\"(?!data:)", (tmp_path / "sheet.html").read_text())


def test_a_place_stands_under_its_photo_escaped(tmp_path: Path) -> None:
    entry = replace(photo(900), source=("uploads", 0, 1))
    events = {("uploads", 0, 1): {"photo_id": "photo-900", "uri": "http://x/a.jpg", "place": "<b>Café</b>"}}
    (found,), _ = sheet.located(([entry], []), events)
    assert found.uri == "http://x/a.jpg"
    sheet.make(tmp_path, [found], ([found], []), ({"photo-900": shown(jpeg())}, {}), seed=0)
    assert "&lt;b&gt;Café&lt;/b&gt;" in (tmp_path / "sheet.html").read_text()


def test_the_event_of_another_photo_does_not_count() -> None:
    events = {("uploads", 0, 900): {"photo_id": "another", "uri": "http://x/a.jpg"}}
    (found,), _ = sheet.located(([photo(900)], []), events)
    assert found.uri is None


def test_a_model_that_picks_nothing_cannot_be_judged() -> None:
    with pytest.raises(DataError, match="good"):
        sheet.choose([photo(number, 0.1) for number in range(9)], 4, 4, 0)


def verdict_file(path: Path, key: Key, judge: str, said: dict[str, tuple[bool, bool]]) -> Path:
    values = {token: {"usable": usable, "in_context": context} for token, (usable, context) in said.items()}
    path.write_text(json.dumps({"trial": key.trial, "judge": judge, "verdicts": values}))
    return path


def test_precision_is_the_share_of_usable_picks_with_wilsons_interval(tmp_path: Path) -> None:
    key = made_sheet(tmp_path)
    picks = [entry.token for entry in key.entries if entry.picked]
    others = [entry.token for entry in key.entries if not entry.picked]
    said = {token: (index < 3, index < 1) for index, token in enumerate(picks)}
    said |= {token: (index < 2, False) for index, token in enumerate(others[:5])}
    found = report.summarise(key, [report.read(verdict_file(tmp_path / "v.json", key, "Ann", said), key)])
    usable, context = found.picked["usable"], found.picked["in_context"]
    assert (usable.yes, usable.judged, usable.share) == (3, 4, 0.75)
    assert (usable.low, usable.high) == (wilson(3, 4).low, wilson(3, 4).high)
    assert (context.yes, context.judged) == (1, 4)
    assert (found.controls["usable"].yes, found.controls["usable"].judged) == (2, 5)
    assert found.unjudged == 1
    assert "3 of 4: 75.0%" in report.markdown(found)


def test_the_majority_of_judges_decides_and_a_tie_is_a_no(tmp_path: Path) -> None:
    key = made_sheet(tmp_path, picks=2, controls=0)
    one, other = (entry.token for entry in key.entries)
    opinions = [{one: True, other: True}, {one: True, other: False}]
    judged = [
        report.Judgements(f"judge {index}", {t: {"usable": yes, "in_context": yes} for t, yes in said.items()})
        for index, said in enumerate(opinions)
    ]
    assert report.summarise(key, judged).picked["usable"].yes == 1
    third = report.Judgements("judge 3", {other: {"usable": True, "in_context": False}})
    found = report.summarise(key, [*judged, third])
    assert found.picked["usable"].yes == 2
    assert found.picked["in_context"].yes == 1


def test_agreement_is_cohens_kappa(tmp_path: Path) -> None:
    from sklearn.metrics import cohen_kappa_score  # noqa: PLC0415 - the oracle of this test alone

    key = made_sheet(tmp_path)
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 2, (2, len(key.entries)))
    judged = [
        report.Judgements(
            name,
            {e.token: {"usable": bool(v), "in_context": False} for e, v in zip(key.entries, said, strict=True)},
        )
        for name, said in (("a", left), ("b", right))
    ]
    found = report.summarise(key, judged)
    assert found.agreement["usable"] == pytest.approx(cohen_kappa_score(left, right))
    assert found.agreement["in_context"] == 1.0
    assert report.summarise(key, judged[:1]).agreement["usable"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"trial": "another"},
        {"judge": " "},
        {"verdicts": {"unknown": {"usable": True, "in_context": True}}},
        {"verdicts": None},
    ],
)
def test_verdicts_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    key = made_sheet(tmp_path)
    path = tmp_path / "v.json"
    path.write_text(json.dumps({"trial": key.trial, "judge": "Ann", "verdicts": {}, **change}))
    with pytest.raises(DataError):
        report.summarise(key, [report.read(path, key)])


def test_half_an_answer_and_a_judges_second_file_are_refused(tmp_path: Path) -> None:
    key = made_sheet(tmp_path)
    token = key.entries[0].token
    path = tmp_path / "v.json"
    path.write_text(json.dumps({"trial": key.trial, "judge": "Ann", "verdicts": {token: {"usable": 1}}}))
    with pytest.raises(DataError, match="yes or no"):
        report.read(path, key)
    good = report.read(verdict_file(path, key, "Ann", {token: (True, True)}), key)
    with pytest.raises(DataError, match="two files"):
        report.summarise(key, [good, good])
    with pytest.raises(RunError):
        sheet.read_key(tmp_path / "nowhere")


class _Host(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data")
            self.end_headers()
            return
        self.send_response(200 if self.path == "/photo.jpg" else 404)
        self.end_headers()
        self.wfile.write(jpeg())

    def log_message(self, *_values: object) -> None:
        """Quiet."""


@pytest.fixture
def host() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Host) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_photos_come_from_named_hosts_and_folders_only(host: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/photo 1.jpg", "out.jpg"):
        (tmp_path / name).write_bytes(jpeg())
    places = Places(frozenset({host}), (tmp_path / "in",))
    assert read_bytes(f"http://{host}/photo.jpg", allowed=places.check) == jpeg()
    assert read_bytes(f"file://{tmp_path}/in/photo%201.jpg", allowed=places.check) == jpeg()
    for uri in (
        f"file://{tmp_path}/in/../out.jpg",
        f"{tmp_path}/out.jpg",
        "file:///etc/passwd",
        "http://127.0.0.2/photo.jpg",
        f"http://{host}@127.0.0.2/photo.jpg",
        f"http://{host}/elsewhere",
        f"http://{host}/missing.jpg",
        "s3://bucket/photo.jpg",
    ):
        with pytest.raises(Unreadable):
            read_bytes(uri, allowed=places.check)
    with pytest.raises(Unreadable):
        read_bytes(f"http://{host}/photo.jpg", allowed=Places().check)


def test_a_photo_is_shown_small_and_without_its_metadata() -> None:
    image = Image.open(io.BytesIO(shown(jpeg())))
    assert max(image.size) == 480
    assert not image.getexif()


def test_photos_that_cannot_be_shown_are_listed_with_their_reason(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "b.jpg").write_bytes(b"no photo")
    uris = {"a": f"{tmp_path}/a.jpg", "b": f"{tmp_path}/b.jpg", "c": None}
    good, bad = collect(uris, Places(folders=(tmp_path,)))
    assert list(good) == ["a"]
    assert set(bad) == {"b", "c"}


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium: apt-get install chromium")
def test_a_browser_keeps_what_a_judge_clicks(tmp_path: Path) -> None:
    key = made_sheet(tmp_path, picks=2, controls=0)
    page = tmp_path / "sheet.html"
    clicks = (
        "<script>judge.value = 'Ann';"
        "for (const [index, figure] of [...document.querySelectorAll('figure')].entries())"
        " for (const button of figure.querySelectorAll(index ? 'button.no' : 'button.yes')) button.click();"
        "document.body.dataset.result = result();</script>"
    )
    page.write_text(page.read_text().replace("</html>", clicks + "</html>"))
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
    result = re.search(r'data-result="([^"]*)"', dom)
    assert result is not None
    assert "2 of 2 judged" in dom
    path = tmp_path / "verdicts.json"
    path.write_text(result[1].replace("&quot;", '"'))
    said = report.read(path, key).answers
    assert [said[entry.token]["usable"] for entry in key.entries] == [True, False]
