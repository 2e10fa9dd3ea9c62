"""The templates of the pages: whatever senders write is a text on them, and nothing else."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from consumer.escape import printable
from consumer.events import Brand, Quality
from consumer.web.gallery import DeadLetter, TaggedPhoto
from consumer.webserver.filters import TIMES, Filter
from consumer.webserver.site import environment, photo_page
from tests.unit.web.test_gallery import ALLOWED_TAGS, HOSTILE, Page

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
#: Those of the gallery, and what pages of a server have beside.
TAGS = (
    ALLOWED_TAGS - {"style"}
    | {"nav", "form", "input", "fieldset", "legend", "table", "thead", "tbody", "tr", "th"}
    | {"td"}
)


def render(template: str, **values: Any) -> Page:
    shared = {
        "release": 3,
        "problem": "",
        "changes": True,
        "token": "secret",
        "token_field": "form",
        "now": NOW,
        "page": "",
    }
    return Page(environment().get_template(template).render(**{**shared, **values}))


def photos(text: str) -> Page:
    card = TaggedPhoto(
        text, text, Quality(0.5, 3, good=True), (Brand(text, 0.7),), f"/picture?id={text}", photo_page(text)
    )
    shown = {"wanted": Filter(brands=(text,)), "photos": [card], "brands": [(text, 1)], "problem": text, "why": text}
    turned = SimpleNamespace(found=1, next_page=2, cursor="")
    counts = {"turned": turned, "first": 0, "kept": 1, "oldest": NOW, "caught_up": True, "times": TIMES}
    return render("photos.html", **shown, **counts, releases=[1, 2])


def letters(text: str) -> Page:
    card = DeadLetter(text, text, text, text, f"/picture?id={text}", photo_page(text), text)
    listed = SimpleNamespace(state="waiting", letter=SimpleNamespace(letter_id=text))
    shown = {
        "letters": [(listed, card)],
        "total": 1,
        "reasons": {text: 1},
        "reason": text,
        "hours": 24,
        "times": {24: "day"},
    }
    return render("letters.html", **shown, why="", said=text)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("make", [photos, letters, lambda text: render("problem.html", title=text, what=text)])
def test_hostile_texts_are_texts(text: str, make: Any) -> None:
    page = make(text)
    assert {tag for tag, _ in page.tags} <= TAGS
    assert not any(name.startswith("on") or name == "style" for _, attributes in page.tags for name in attributes)
    assert page.text.count(printable(text)) >= 2
    assert all(link.startswith(("/", "#", "data:image/svg+xml,")) for link in page.values("href"))
    assert page.scripts == []
    assert page.values("src", "script") == ["/site.js"]


@pytest.mark.parametrize("text", HOSTILE)
def test_the_value_of_a_field_is_what_was_written(text: str) -> None:
    assert text in photos(text).values("value", "input")
    assert text in photos(text).values("data-photo")


def test_long_texts_are_cut_where_they_are_shown() -> None:
    page = letters("x" * 65_536)
    assert len(page.text) < 5_000


def test_an_id_that_no_photo_can_have_has_no_page() -> None:
    assert photo_page("") == photo_page("x" * 1001) == ""
    assert photo_page("a/../b?c#d&e=f%00\u00e9") == "/photo?id=a%2F..%2Fb%3Fc%23d%26e%3Df%2500%C3%A9"
