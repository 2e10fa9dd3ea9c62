"""What the demo publishes, how it counts, and what it takes for wrong: all without a server."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image

from consumer.demo import photos
from consumer.demo.failing import write_failing
from consumer.demo.ledger import Ledger, Outcome, left_behind, numbers_of, problems_of, releases_of
from consumer.demo.photos import BadFolder, DemoPhoto, find_photos, plan
from consumer.events import UPLOADED_ADAPTER, Brand, PhotoUploaded, Quality, Source, Tags, encode
from consumer.kafka.headers import Failure

AT = datetime(2026, 1, 2, tzinfo=UTC)
TAGS = Tags(
    *("a", Quality(0.9, 5, True), (Brand("Aldera", 0.9),), {"Aldera": 0.9}),
    *({"photo_quality": "1"}, "v1", Source("photo-uploads", 0, 0), AT),
)
PHOTO = DemoPhoto("a", "a.jpg", "http://127.0.0.1:1/a.jpg", None)
ODD_NAMES = (
    "tea & cake.jpg",
    "caf\u00e9 #2.JPEG",
    "100%.png",
    "%41.webp",
    "a?b=c.gif",
    "\u5199\u771f.tif",
    "x+y;z.bmp",
    "-rf.jpg",
)


def dead(reason: str, detail: str) -> Failure:
    return Failure(reason, detail, 1, Source("photo-uploads", 0, 0), AT)


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_photos_are_found_below_the_folder_by_suffix_in_any_case(tmp_path: Path) -> None:
    fill(tmp_path, "b.JPG", "deep/er/a.HeIc", "notes.txt", "jpg", "c.png.part")
    assert [path.relative_to(tmp_path).as_posix() for path in find_photos(tmp_path).paths] == [
        "b.JPG",
        "deep/er/a.HeIc",
    ]


def test_links_that_lead_out_of_the_folder_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "secret.jpg", "mine/a.jpg")
    (tmp_path / "mine" / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "mine" / "in.jpg").symlink_to("a.jpg")
    (tmp_path / "mine" / "dangling.jpg").symlink_to("nothing")
    assert [path.name for path in find_photos(tmp_path / "mine").paths] == ["a.jpg", "in.jpg"]


@pytest.mark.parametrize("name", ["empty", "missing", "file"])
def test_a_folder_without_photos_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    fill(tmp_path, "file", "empty/notes.txt")
    with pytest.raises(BadFolder, match=str(tmp_path / name)):
        find_photos(tmp_path / name)


def test_names_that_are_no_text_are_left_out_with_a_note(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg")).write_bytes(b"x")
    found = find_photos(tmp_path)
    assert [path.name for path in found.paths] == ["a.jpg"]
    assert found.notes == ("1 files are left out: their names are not UTF-8",)


def test_of_too_many_photos_the_first_are_used_and_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "MAX_PHOTOS", 3)
    fill(tmp_path, *(f"{number}.jpg" for number in range(5)))
    found = find_photos(tmp_path)
    assert [path.name for path in found.paths] == ["0.jpg", "1.jpg", "2.jpg"]
    assert found.notes == ("5 photos found: only the first 3 are used",)


def test_odd_names_survive_as_uris_and_ids_are_unique_and_valid(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    namesakes = (
        "one/same.jpg",
        "two/same.jpg",
        "same.png",
        "truncated-photo.jpg",
        "line\nbreak.jpg",
        "n" * 251 + ".jpg",
    )
    fill(mine, *ODD_NAMES, *namesakes)
    published = plan(find_photos(mine), "http://127.0.0.1:1", write_failing(tmp_path), "http://127.0.0.1:2")
    assert len({photo.photo_id for photo in published}) == len(published) == len(ODD_NAMES) + len(namesakes) + 4
    for photo in published:
        UPLOADED_ADAPTER.validate_json(encode(PhotoUploaded(photo.photo_id, photo.uri, AT)))
        url = urlsplit(photo.uri)
        assert unquote(url.path) == f"/{photo.name}"
        assert not url.query
        assert not url.fragment


def test_those_that_must_fail_are_always_among_them(tmp_path: Path) -> None:
    fill(tmp_path / "mine", "a.jpg", "b.jpg")
    broken = write_failing(tmp_path)
    published = plan(find_photos(tmp_path / "mine"), "http://127.0.0.1:1", broken, "http://127.0.0.1:2")
    assert sorted(photo.name for photo in published if photo.must_fail) == sorted(each.name for each in broken)


def test_what_must_fail_is_broken_in_the_way_that_it_says(tmp_path: Path) -> None:
    files = {each.reason: each.path for each in write_failing(tmp_path)}
    assert files["http_4xx"] is None
    assert files["unsupported_format"] is not None
    assert b"<!doctype html>" in files["unsupported_format"].read_bytes()
    assert files["corrupt_image"] is not None
    with Image.open(files["corrupt_image"]) as image, pytest.raises(OSError, match="truncated"):
        image.load()
    assert files["too_many_pixels"] is not None
    assert files["too_many_pixels"].stat().st_size < 10_000
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(files["too_many_pixels"])


def test_numbers_come_from_the_times_of_the_records() -> None:
    published = {str(number): 1_000 for number in range(20)}
    ledger = Ledger({**published, "bad": 1_000})
    for number in range(20):
        ledger.enter(str(number), Outcome(TAGS, 1_100 + 100 * number))
    ledger.enter("bad", Outcome(dead("http_4xx", ""), 1_050))
    numbers = numbers_of(ledger)
    assert (numbers.tagged, numbers.dead_lettered) == (20, 1)
    assert (numbers.p50_ms, numbers.p95_ms) == (1_000, 1_900)
    assert numbers.photos_per_s == pytest.approx(21 / 2.0)


def test_without_outcomes_nothing_was_measured() -> None:
    numbers = numbers_of(Ledger({"a": 1}))
    assert (numbers.photos_per_s, numbers.p50_ms, numbers.p95_ms) == (None, None, None)


def test_a_repeated_result_is_no_contradiction_but_tags_and_a_dead_letter_are() -> None:
    ledger = Ledger({"a": 1})
    ledger.enter("a", Outcome(TAGS, 2))
    ledger.enter("a", Outcome(TAGS, 3))
    assert not ledger.contradictions
    ledger.enter("a", Outcome(dead("http_4xx", ""), 4))
    ledger.enter("b", Outcome(TAGS, 4))
    assert ledger.contradictions == ["a: both tags and a dead letter", "b: an outcome without an event"]


def judge(
    photo: DemoPhoto, result: Tags | Failure | None, stored: Tags | None, *, all_tagged: bool = True
) -> list[str]:
    ledger = Ledger({photo.photo_id: 1})
    if result is not None:
        ledger.enter(photo.photo_id, Outcome(result, 2))
    return problems_of([photo], ledger, {} if stored is None else {photo.photo_id: stored}, all_tagged=all_tagged)


def test_a_right_outcome_is_no_problem() -> None:
    refused = dead("http_4xx", "404")
    # Redis keeps the probabilities of the brands alone.
    assert judge(PHOTO, TAGS, replace(TAGS, probabilities={})) == []
    assert judge(replace(PHOTO, must_fail="http_4xx"), refused, None) == []
    assert judge(PHOTO, refused, None, all_tagged=False) == []


@pytest.mark.parametrize(
    ("result", "stored"),
    [
        (None, None),
        (TAGS, None),
        (TAGS, replace(TAGS, version="v0")),
        (TAGS, replace(TAGS, quality=Quality(0.1, 1, False))),
        (TAGS, replace(TAGS, brands=())),
        (TAGS, replace(TAGS, models={})),
        (dead("http_4xx", "404"), None),
        (dead("http_4xx", "404"), TAGS),
    ],
)
def test_every_disagreement_is_a_problem(result: Tags | Failure | None, stored: Tags | None) -> None:
    assert judge(PHOTO, result, stored)


def of_release(number: int, tags: Tags = TAGS) -> Tags:
    return replace(tags, version=f"{7:013d}.{number:06d}.{0:013d}")


def test_a_later_result_takes_the_place_of_tags_and_never_of_a_dead_letter() -> None:
    ledger = Ledger({"a": 1, "b": 1, "c": 1}, contradictions=["of before"])
    for photo_id, result in (("a", TAGS), ("b", dead("http_4xx", "")), ("c", TAGS)):
        ledger.enter(photo_id, Outcome(result, 2))
    later = ledger.after({"a": of_release(2), "b": of_release(2)})
    assert {key: outcome.result for key, outcome in later.outcomes.items()} == {
        "a": of_release(2),
        "b": dead("http_4xx", ""),
        "c": TAGS,
    }
    assert (later.published_ms, later.contradictions) == (ledger.published_ms, ["of before"])
    assert ledger.outcomes["a"].result == TAGS


def test_tags_of_another_release_than_the_one_in_force_are_named() -> None:
    photos = [replace(PHOTO, photo_id=name, name=f"{name}.jpg") for name in "abc"]
    stored = {"a": of_release(2), "b": of_release(1)}
    assert left_behind(photos, stored, 2) == ["b.jpg: its tags are of release 1, and 2 is in force"]
    assert left_behind(photos, {}, 2) == []
    assert releases_of(stored) == [1, 2]


@pytest.mark.parametrize("result", [TAGS, dead("corrupt_image", "")])
def test_a_photo_that_must_fail_must_fail_for_its_reason(result: Tags | Failure) -> None:
    stored = result if isinstance(result, Tags) else None
    assert judge(replace(PHOTO, must_fail="http_4xx"), result, stored)
