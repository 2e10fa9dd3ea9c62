"""The page that people open: complete, self-contained, and safe to open whatever the photos are called."""

import base64
import hashlib
import io
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from consumer.errors import REASONS
from consumer.escape import printable
from consumer.events import Brand, Quality
from consumer.web import gallery, thumbnails
from consumer.web.reasons import in_words
from tests.unit.photos import encoded as encoded_image

HOSTILE = (
    "<script>alert(1)</script>",
    '" onerror="alert(1)',
    "' autofocus onfocus='alert(1)",
    "</title><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)//&amp;",
    "\u202egpj.exe \U0001f4a5",
)
#: Every element of the template; a hostile text that becomes an element is none of them.
ALLOWED_TAGS = frozenset(
    {"html", "head", "meta", "title", "link", "style", "body", "header", "main", "section", "div", "h1", "h2", "h3"}
    | {"p", "b", "i", "dl", "dd", "dt", "ul", "li", "img", "span", "code", "label", "select", "option", "output"}
    | {"button", "script", "svg", "rect", "path", "circle", "a"}
)


class Page(HTMLParser):
    """Every start tag with its attributes, and the text between tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._inside = ""
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag

    def handle_endtag(self, _tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        {"script": self.scripts, "style": self.styles}.get(self._inside, self.texts).append(data)

    def values(self, attribute: str, tag: str | None = None) -> list[str]:
        return [attrs[attribute] for name, attrs in self.tags if attribute in attrs and tag in {None, name}]

    @property
    def text(self) -> str:
        return "".join(self.texts)


def render(
    photos: Iterable[gallery.TaggedPhoto] = (),
    dead: Iterable[gallery.DeadLetter] = (),
    notice: str = "",
    releases: Iterable[int] = (7,),
    change: gallery.Link | None = None,
) -> str:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    models = {"photo_quality": ["3"]}
    summary = gallery.Summary(12.5, 80.0, 1_250.0, models, list(releases), notice, at, change)
    return gallery.render(list(photos), list(dead), summary)


def photo(photo_id: str = "p", name: str = "p.jpg", score: float = 0.8, *brands: str) -> gallery.TaggedPhoto:
    level = 1 + int(score * 4 + 0.5)
    found = tuple(Brand(brand, 0.9) for brand in brands)
    return gallery.TaggedPhoto(photo_id, name, Quality(score, level, score >= 0.5), found, None)


def encoded(size: tuple[int, int], form: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    body = io.BytesIO()
    Image.new(mode, size, 0x2080C0).save(body, form, **options)
    return body.getvalue()


def decoded(uri: str | None) -> Image.Image:
    assert uri is not None
    prefix = "data:image/jpeg;base64,"
    assert uri.startswith(prefix)
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(prefix))))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_text_and_nothing_else(text: str) -> None:
    page = Page(render([photo(text, text, 0.4, text)], [gallery.DeadLetter(text, text, text, text, None)], notice=text))
    assert {tag for tag, _ in page.tags} <= ALLOWED_TAGS
    assert len(page.scripts) == 1
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert page.values("data-photo") == [text]
    assert page.values("data-dead") == [text]
    # The notice, both names, the brand's button and chip, the reason and the detail.
    assert page.text.count(printable(text)) == 7


def test_every_photo_and_every_dead_letter_is_there_exactly_once() -> None:
    photos = [photo(f"photo {number}", f"same name {number % 3}.jpg", number / 60) for number in range(60)]
    dead = [gallery.DeadLetter(f"letter {number}", "x.jpg", "http_4xx", "404", None) for number in range(7)]
    page = Page(render(photos, dead))
    assert sorted(page.values("data-photo")) == sorted(each.photo_id for each in photos)
    assert page.values("data-dead") == [each.photo_id for each in dead]


def test_photos_stand_best_first() -> None:
    page = Page(render([photo("b", "b", 0.2), photo("a", "a", 0.9), photo("c", "c", 0.5)]))
    assert page.values("data-photo") == ["a", "c", "b"]


def test_the_page_loads_nothing() -> None:
    picture = thumbnails.thumbnail(encoded((64, 48)))
    shown = gallery.TaggedPhoto("p", "p.jpg", Quality(0.9, 5, True), (), picture)
    page = Page(render([shown, photo()], [gallery.DeadLetter("d", "d.jpg", "corrupt_image", "short", picture)]))
    linked = [value for name in ("src", "href", "srcset", "action", "poster", "data") for value in page.values(name)]
    assert linked
    assert all(value.startswith("data:") for value in linked)
    assert not re.search(r"url\(|@import|https?:", "".join(page.styles + page.scripts))


def test_the_content_policy_names_the_one_script() -> None:
    page = Page(render([photo()]))
    (policy,) = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256("".join(page.scripts).encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize(
    ("releases", "said"), [([], "UTC · photo"), ([2], "· release 2 ·"), ([1, 2], "· releases 1, 2 ·")]
)
def test_the_page_says_which_releases_the_tags_are_of(releases: list[int], said: str) -> None:
    assert said in Page(render([photo()], releases=releases)).text


def test_the_page_leads_to_that_of_a_change() -> None:
    page = Page(render([photo()], change=gallery.Link("change.html", "1 of 2 photos change", "Release 2:")))
    assert page.values("href", "a") == ["change.html"]
    assert "Release 2: 1 of 2 photos change" in page.text
    assert not Page(render([photo()])).values("href", "a")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_link_with_hostile_texts_is_one_link(text: str) -> None:
    page = Page(render(change=gallery.Link("change.html", text, text)))
    assert {tag for tag, _ in page.tags} <= ALLOWED_TAGS
    assert page.values("href", "a") == ["change.html"]
    assert page.text.count(printable(text)) == 2


def test_without_photos_the_page_says_so() -> None:
    page = Page(gallery.render([], [], gallery.Summary(None, None, None, {}, [], "", datetime(2026, 1, 2, tzinfo=UTC))))
    assert "No photo was tagged." in page.text
    assert "none: every photo was tagged" in page.text
    assert not page.values("data-photo")


def test_quality_is_told_in_words_for_those_who_do_not_see_the_bar() -> None:
    page = Page(render([photo("p", "p.jpg", 0.75)]))
    assert "quality level 4 of 5, fine, score 0.75" in page.values("aria-label")


def test_every_picture_has_an_alternative_text() -> None:
    picture = thumbnails.thumbnail(encoded((64, 48)))
    shown = gallery.TaggedPhoto("p", "tea.jpg", Quality(0.9, 5, True), (Brand("Aldera", 0.91),), picture)
    page = Page(render([shown, photo("q", "blank.jpg")]))
    assert page.values("alt", "img") == ["tea.jpg, showing Aldera"]
    assert "no preview of blank.jpg" in page.values("aria-label")


def test_filters_name_each_brand_once_with_its_number_of_photos() -> None:
    page = Page(render([photo("1", "1", 0.9, "Aldera", "Bright"), photo("2", "2", 0.8, "Aldera"), photo("3", "3")]))
    assert page.values("data-brand", "button") == ["0", "1"]
    assert [value.split() for value in page.values("data-brands")] == [["0", "1"], ["0"], []]
    assert "Aldera 2" in page.text


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_thumbnails_keep_the_shape_within_320_pixels(form: str) -> None:
    picture = decoded(thumbnails.thumbnail(encoded((1200, 800), form)))
    assert picture.size == (320, 213)


def test_small_photos_are_not_enlarged() -> None:
    assert decoded(thumbnails.thumbnail(encoded((40, 30)))).size == (40, 30)


def test_a_photo_that_is_too_small_to_be_judged_is_shown() -> None:
    assert decoded(thumbnails.thumbnail(encoded((4, 3)))).size == (4, 3)


def test_thumbnails_stand_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    assert decoded(thumbnails.thumbnail(encoded((600, 400), exif=exif))).size == (213, 320)


def small_first_frame() -> bytes:
    red = Image.new("P", (20, 10), 1)
    red.putpalette([0, 0, 0, 255, 0, 0])
    body = bytearray(encoded_image(red, "GIF"))
    body[6:10] = b"\x3c\0\x28\0"
    place = body.index(b",", 13 + 3 * 2 ** ((body[10] & 7) + 1)) + 1
    body[place : place + 4] = b"\x0a\0\4\0"
    return bytes(body)


@pytest.mark.parametrize(
    ("body", "corner", "middle"),
    [
        (small_first_frame(), 255, 85),
        (encoded_image(Image.new("I;16", (60, 40), 40 << 8), "PNG"), 40, 40),
        (encoded_image(Image.new("RGB", (60, 40), (90, 90, 90)), "WEBP", exif=b"broken"), 90, 90),
    ],
    ids=["GIF with a small first frame", "16-bit grey", "broken EXIF"],
)
def test_thumbnails_show_what_the_service_judges(body: bytes, corner: int, middle: int) -> None:
    pixels = np.asarray(decoded(thumbnails.thumbnail(body))).mean(2)
    assert pixels.shape == (40, 60)
    assert [pixels[39, 59], pixels[8, 15]] == pytest.approx([corner, middle], abs=4)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "I;16", "CMYK"])
def test_every_mode_becomes_a_picture(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert decoded(thumbnails.thumbnail(encoded((50, 40), form, mode))).mode == "RGB"


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xd8\xff\xd9", b"<!doctype html>", encoded((64, 64))[:200], b"\x89PNG\r\n\x1a\n"]
)
def test_bytes_that_are_no_photo_have_no_thumbnail_but_a_placeholder(body: bytes) -> None:
    assert thumbnails.thumbnail(body) is None
    letter = gallery.DeadLetter("d", "d.jpg", "corrupt_image", "short", thumbnails.thumbnail(body))
    assert "no preview of d.jpg" in Page(render([], [letter])).values("aria-label")


@pytest.mark.parametrize("form", ["TIFF", "BMP", "EPS", "PDF", "ICO"])
def test_formats_that_the_service_does_not_read_have_no_thumbnail(form: str) -> None:
    assert thumbnails.thumbnail(encoded((64, 64), form)) is None


def test_a_hostile_file_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\n: >{tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    opened, read = [], EpsImagePlugin.EpsImageFile._open
    monkeypatch.setattr(EpsImagePlugin.EpsImageFile, "_open", lambda image: (opened.append(image), read(image)))
    body = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"
    for photo in (body, encoded((64, 64), "EPS")):
        assert thumbnails.thumbnail(photo) is None
        assert thumbnails.partial_thumbnail(photo) is None
    assert not opened
    assert not (tmp_path / "started").exists()


def test_of_a_truncated_jpeg_the_part_that_is_there_is_shown() -> None:
    noise = io.BytesIO()
    Image.effect_noise((400, 400), 80).save(noise, "JPEG")
    half = noise.getvalue()[: len(noise.getvalue()) // 2]
    assert thumbnails.thumbnail(half) is None
    picture = decoded(thumbnails.partial_thumbnail(half))
    top, bottom = picture.crop((0, 0, 320, 80)), picture.crop((0, 240, 320, 320))
    assert len(set(top.convert("L").tobytes())) > 50
    assert len(set(bottom.convert("L").tobytes())) < 10


def test_a_bomb_is_not_unpacked() -> None:
    body = encoded((7_200, 7_200), "PNG", "1")
    assert len(body) < 100_000
    assert thumbnails.thumbnail(body) is None
    assert thumbnails.partial_thumbnail(body) is None


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_told_in_plain_words(reason: str) -> None:
    assert "does not know" not in in_words(reason)
