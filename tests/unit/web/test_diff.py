"""The report of a run: it says first what changes, shows every number, and is safe whatever photos are called."""

import base64
import hashlib
import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumer.errors import REASONS
from consumer.releases import ModelVersion
from consumer.runs.answers import Answer
from consumer.runs.comparison import fold
from consumer.runs.gates import Gates
from consumer.runs.report import REPORT_ADAPTER, Report, RunHeader
from consumer.runs.summary import report_of
from consumer.web import charts, diff, thumbnails
from consumer.web.reasons import in_words
from tests.unit.runs.synthetic import RUN, STARTED, answer, plausible, tags
from tests.unit.web.test_gallery import HOSTILE, Page, encoded

OPEN = Gates(min_photos=0, max_level_jumps=1, max_brands_lost=1, max_mean_shift=1, max_not_judged=1)
#: Every element of the template; a hostile text that becomes an element is none of them.
ALLOWED_TAGS = frozenset(
    {"html", "head", "meta", "title", "link", "style", "body", "header", "main", "section", "div", "h1", "h2", "h3"}
    | {"h4", "p", "b", "i", "dl", "dd", "dt", "ul", "li", "img", "span", "code", "svg", "rect", "path", "circle"}
    | {"text", "table", "thead", "tbody", "tr", "th", "td"}
)
LARGEST = ("quality_up", "quality_down", "brands_gained", "brands_lost")


def report(*answers: Answer, limits: Gates = OPEN, run: RunHeader = RUN) -> Report:
    return report_of(run, fold(answers, STARTED), limits)


def shown_in(found: Report) -> list[str]:
    return [change.photo_id for kind in LARGEST for change in getattr(found.largest, kind)]


def everywhere(text: str) -> tuple[Report, dict[str, bytes | str]]:
    """A report with that text in each place that takes one from outside."""
    answers = (
        answer(tags(0.1, {text: 0.9}), tags(0.9, {f"{text} 2": 0.8}), text, format=text, uri=text),
        answer(tags(0.9), tags(0.1), f"{text} down"),
        answer(None, None, f"{text} gone", reason=text, detail=text, uri=text),
    )
    judges = replace(RUN.candidate, quality=ModelVersion(text, text), brand=ModelVersion(text, text))
    return report(*answers, run=replace(RUN, run_id=text, candidate=judges, photos=text, by=text)), {text: text}


@pytest.mark.parametrize("text", HOSTILE[:-1])
def test_hostile_texts_are_text_and_nothing_else(text: str) -> None:
    page = Page(diff.render(*everywhere(text)))
    assert {tag for tag, _ in page.tags} <= ALLOWED_TAGS
    assert not page.scripts
    assert not any(name.startswith("on") or name == "style" for _, attrs in page.tags for name in attrs)
    # The title, the heading, range, author, both sides; brand, format, and what of the photo that is gone.
    assert page.text.count(text) >= 12
    assert text in page.values("title")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("a\x1b[31m\x07\x00", r"a\x1b[31m\x07\x00"),
        ("one\u2028two\nthree", r"one\u2028two\nthree".replace(r"\n", r"\x0a")),
        ("half \udcff", r"half \udcff"),
        ("\u200b", r"\u200b"),
    ],
)
def test_characters_that_are_not_visible_are_shown_as_escapes(text: str, shown: str) -> None:
    html = diff.render(*everywhere(text))
    assert html.replace("\n", "").isprintable()
    assert Page(html).text.count(shown) >= 12
    html.encode()


def test_long_texts_are_cut() -> None:
    page = diff.render(*everywhere("x" * 100_000))
    assert len(page) < 100_000
    assert "x" * 300 + "…" in page
    assert "…" not in diff.render(*everywhere("x" * 275))  # whose longest is https://photos.test/xx...xx down


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    found = report(*plausible(300))
    picture = thumbnails.jpeg(encoded((64, 48)))
    assert picture is not None
    pictures: dict[str, bytes | str] = dict.fromkeys(shown_in(found), picture)
    page = Page(diff.render(found, pictures))
    linked = [value for name in ("src", "href", "srcset", "action", "poster", "data") for value in page.values(name)]
    assert len(linked) > 4
    assert all(value.startswith("data:") for value in linked)
    assert not re.search(r"url\(|@import|https?:", "".join(page.styles))
    (policy,) = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256("".join(page.styles).encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-" + digest)
    assert "script" not in policy


def test_the_page_says_first_how_many_photos_change_and_whether_the_gates_hold() -> None:
    changed = (answer(tags(0.4), tags(0.9), "a"), answer(tags(0.4), tags(0.4), "b"), answer(tags(0.4), None, "c"))
    for limits, state in (
        (OPEN, "All gates hold: the run may be promoted."),
        (replace(OPEN, min_photos=3), "1 gate does not hold: only --force promotes the run."),
        (replace(OPEN, min_photos=3, max_not_judged=0), "2 gates do not hold"),
    ):
        found = report(*changed, limits=limits)
        text = re.sub(r"\s+", " ", Page(diff.render(found, {})).text)
        head = text[: text.index("photos in the run")]
        assert "1 of 2 photos change (50.0 %)" in head
        assert "Quality level: 1 rise, 0 fall; the mean score moves by +0.250." in head
        assert state in head
        assert all(violation.text in head for violation in found.gates.violations)


def test_every_largest_change_is_shown_with_its_picture_or_why_there_is_none() -> None:
    found = report(*plausible(400))
    picture = thumbnails.jpeg(encoded((64, 48)))
    assert picture is not None
    shown = shown_in(found)
    pictures: dict[str, bytes | str] = {name: picture if n % 2 else f"HTTP 4{n}" for n, name in enumerate(shown)}
    page = Page(diff.render(found, pictures))
    assert page.values("alt", "img") == [name for name in shown if isinstance(pictures[name], bytes)]
    assert set(page.values("src", "img")) == {thumbnails.data_uri(picture)}
    assert all(why in page.text for why in pictures.values() if isinstance(why, str))


def test_a_picture_that_nobody_fetched_says_so() -> None:
    text = Page(diff.render(report(answer(tags(0.1), tags(0.9))), {})).text
    assert "its picture was not fetched" in text


def test_brands_are_told_as_kept_gained_and_lost() -> None:
    found = report(answer(tags(0.1, {"A": 0.9, "B": 0.8}), tags(0.9, {"B": 0.7, "C": 0.6})))
    text = re.sub(r"\s+", " ", Page(diff.render(found, {})).text)
    assert "+C 60.0 % gained −A 90.0 % lost B 70.0 % kept" in text  # noqa: RUF001


@pytest.mark.parametrize("count", [0, 60])
def test_every_photo_is_in_one_part_of_each_bar(count: int) -> None:
    swaps = [answer(tags(0.5, {"A": 0.9}), tags(0.5, {"B": 0.9}), f"swap {n}") for n in range(3)]
    found = report(*plausible(count), *swaps, answer(tags(0.5, {"A": 0.9}), tags(0.5), "loses"))
    bars = {name: [number for *_, number in parts] for name, parts in diff._directions(found)}
    assert {name: sum(numbers) for name, numbers in bars.items()} == dict.fromkeys(bars, found.photos.compared)
    if not count:
        assert bars == {"Level": [0, 4, 0], "Good": [0, 4, 0], "Brands": [1, 3, 0, 0]}


def test_levels_have_their_names() -> None:
    found = report(answer(tags(0.0), tags(1.0)))
    text = re.sub(r"\s+", " ", Page(diff.render(found, {})).text)
    assert "before 0.000 unusable, not good after 1.000 excellent, good" in text
    assert "tags unusable1 +1.000" in text  # its slice


def test_the_tables_show_the_numbers_of_the_report() -> None:
    found = report(answer(tags(0.2, {"A": 0.9}), tags(0.3, {"A": 0.9, "B": 0.8})), limits=replace(OPEN, min_photos=2))
    rows = [" ".join(cells) for cells in rows_of(diff.render(found, {}))]
    for row in (
        "level 1 100 % 20.7 % to 100 %",
        "brands 0 0 % 0 % to 79.3 %",
        "before 0.200 0.200 0.200 0.200 0.200 0.200",
        "after 0.300 0.300 0.300 0.300 0.300 0.300",
        "difference +0.100 +0.100 +0.100 +0.100 +0.100 +0.100",
        "weak 0 1 0 0 0",
        "photos that are compared, at least 2 does not hold",
        "photos with brands that lose all of them, at most 100 % holds",
        "B 0 1 0  1 0 % +0.100",
        "jpeg 1  +0.100 0 %",
        "1 to 6 days 1  +0.100 0 %",
    ):
        assert row in rows


def rows_of(html: str) -> list[list[str]]:
    """The texts of the cells of each row of a table."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [
        [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def test_the_page_and_its_numbers_are_written_side_by_side_into_a_new_folder(tmp_path: Path) -> None:
    found = report(answer(tags(0.2), tags(0.9), "a"), answer(tags(0.9), tags(0.2), "b"))
    pictures = {"a": encoded((64, 48)), "b": "http_4xx: gone"}
    numbers = diff.write(found, pictures, tmp_path / "new" / "run.html")
    assert numbers == tmp_path / "new" / "run.json"
    assert numbers.read_bytes() == diff.as_json(found)
    assert (tmp_path / "new" / "run.html").read_text(encoding="utf-8") == diff.render(found, pictures)


def test_latencies_are_told_as_a_person_reads_them() -> None:
    found = report(
        *(answer(tags(), tags(), f"p{number}", took_ms=took_ms) for number, took_ms in enumerate([90, 2_510]))
    )
    shown = re.findall(r"<dt>(p\d\d)[^<]*</dt><dd>([^<]*)</dd>", diff.render(found, {}))
    assert shown == [("p50", "90 ms"), ("p95", "2.5 s"), ("p99", "2.5 s")]


def test_a_report_of_no_photos_is_a_page_too() -> None:
    text = Page(diff.render(report(limits=Gates()), {})).text
    assert "No photo could be compared" in text
    assert "0 photos are compared; at least 1,000 must be" in text


def test_photos_that_could_not_be_judged_have_their_reason_in_words() -> None:
    gone = [answer(None, None, f"p{n}", reason=reason, detail=f"why {n}") for n, reason in enumerate(REASONS)]
    text = Page(diff.render(report(*gone), {})).text
    assert all(reason in text and f"why {n}" in text for n, reason in enumerate(REASONS))
    assert all(in_words(reason) in text for reason in REASONS)


def test_more_brands_than_fit_are_counted() -> None:
    seen = {f"brand-{number:03d}": 0.9 for number in range(60)}
    text = Page(diff.render(report(answer(tags(0.5, seen), tags(0.5, seen))), {})).text
    assert "10 more brands are in the JSON report" in text
    assert len(re.findall(r"brand-\d+", text)) == 50


@pytest.mark.parametrize("count", [0, 1, 500])
def test_the_json_has_every_number_of_the_report(count: int) -> None:
    found = report(*plausible(count), limits=Gates())
    payload = diff.as_json(found)
    assert REPORT_ADAPTER.validate_json(payload) == found
    assert same_keys(orjson.loads(payload), found)


def same_keys(value: Any, part: Any) -> bool:
    """Whether every field of a dataclass is a key, and no other, at every depth."""
    if isinstance(part, tuple):
        return all(map(same_keys, value, part))
    if not is_dataclass(part):
        return True
    return list(value) == [each.name for each in fields(part)] and all(
        same_keys(value[each.name], getattr(part, each.name)) for each in fields(part)
    )


@pytest.mark.parametrize("text", [*HOSTILE, "a\x00\x1b", "half \udcff"])
def test_the_json_keeps_hostile_texts_as_they_are(text: str) -> None:
    whole = text.encode(errors="replace").decode()
    found = orjson.loads(diff.as_json(replace(everywhere(whole)[0], run=report(run=replace(RUN, by=text)).run)))
    assert found["largest"]["quality_up"][0]["photo_id"] == whole
    assert found["not_judged"][0]["examples"][0]["detail"] == whole


def test_shares_are_never_rounded_to_none_or_all() -> None:
    shares = [None, 0.0, 1e-7, 0.0123, 0.1, 0.25, 0.99999, 1.0]
    assert [diff._percent(share) for share in shares] == [
        "none",
        "0 %",
        "< 0.01 %",
        "1.23 %",
        "10.0 %",
        "25.0 %",
        "> 99.99 %",
        "100 %",
    ]


def test_bars_fill_their_width_and_leave_out_nothing() -> None:
    segments = charts.stacked([("down", "", 1), ("same", "", 0), ("up", "", 3)], 100)
    assert [(each.style, each.x, each.width) for each in segments] == [("down", 0, 25), ("up", 25, 75)]
    assert charts.stacked([("down", "", 0)], 100) == []
    assert charts.outline([0, 2, 1], 2, 30, 10) == "M0 10V10H10V0H20V5H30V10"
    assert charts.outline([1], 1, 10, 10) == "M0 10V0H10V10"
    assert charts.outline([0], 0, 10, 10) == "M0 10V10H10V10"
    assert [charts.from_middle(value, 2, 100) for value in (-1, 1, -9, 0)] == [(25, 25), (50, 25), (0, 50), (50, 0)]
    assert charts.from_middle(0.5, 1, 100) == (50, 25)
    assert charts.from_middle(0, 0, 100) == (50, 0)
    assert [charts.shade(count, 10) for count in (0, 1, 2, 9, 10)] == [0, 1, 2, 5, 5]
