"""One entry of the table is all that a format needs, and only formats of the table are ever opened."""

import ast
import contextlib
import os
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image
from PIL.BmpImagePlugin import BmpImageFile

from consumer.contract import Geometry
from consumer.demo import page
from consumer.demo.ledger import Ledger
from consumer.demo.photos import DemoPhoto
from consumer.errors import PhotoRejected
from consumer.imaging import formats
from consumer.imaging.cost import Cost, Stored
from consumer.imaging.formats import FORMATS, Format, Option, ends_early, sniff
from consumer.imaging.limits import PrepareLimits
from consumer.imaging.preparer import explain
from consumer.web.thumbnails import partial_thumbnail, thumbnail
from tests.unit.photos import difference, encoded, inspect, photo, to_pixels

ROOT = Path(__file__).parents[3]
GEOMETRY = Geometry(input_size=224, resize_short_side=232)
LIMITS = PrepareLimits()


def check_bmp(body: bytes, limits: PrepareLimits) -> int:
    """What a real one might learn of the structure: the bits of a pixel."""
    if int.from_bytes(body[10:14], "little") > limits.max_side:
        raise PhotoRejected("corrupt_image", "BMP: the pixels lie far behind the header")
    return int.from_bytes(body[28:30], "little")


def bmp_cost(bits: int, stored: Stored) -> Cost:
    return Cost(stored.width * stored.height * bits // 8 + stored.body_bytes, 0.25)


BMP = Format(
    name="BMP",
    title="Bitmap",
    suffixes=(".bmp",),
    recognises=lambda body: body.startswith(b"BM"),
    check=check_bmp,
    picture=bytes,
    reader=BmpImageFile,
    cost=bmp_cost,
    ends_early=lambda body: int.from_bytes(body[2:6], "little") > len(body),
    option=None,
)
BODY = encoded(photo(320, 240), "BMP")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, BMP))


@pytest.mark.usefixtures("registered")
class TestOneEntry:
    def test_a_photo_of_the_new_format_becomes_pixels_and_a_thumbnail(self) -> None:
        assert sniff(BODY, LIMITS) is BMP
        same = encoded(photo(320, 240), "PNG")
        assert difference(to_pixels(BODY, GEOMETRY, LIMITS), to_pixels(same, GEOMETRY, LIMITS)) == 0
        assert thumbnail(BODY) == thumbnail(same)

    def test_its_cost_is_the_estimate_of_its_entry_and_limits_it(self) -> None:
        header = inspect(BODY, GEOMETRY, LIMITS)
        assert (header.format, header.width, header.height, header.scale) == ("BMP", 320, 240, 1)
        assert header.cost == Cost(320 * 240 * 24 // 8 + len(BODY), 0.25)
        with pytest.raises(PhotoRejected, match=r"prepare\.max_decode_cpu_s is 0\.2, this photo has 0\.25") as caught:
            to_pixels(BODY, GEOMETRY, replace(LIMITS, max_decode_cpu_s=0.2))
        assert caught.value.reason == "too_many_pixels"

    def test_its_check_comes_before_its_reader(self) -> None:
        with pytest.raises(PhotoRejected, match="far behind the header"):
            to_pixels(BODY[:10] + b"\xff\xff\xff\0" + BODY[14:], GEOMETRY, LIMITS)

    def test_damage_is_a_corrupt_image_and_a_cut_is_seen(self) -> None:
        with pytest.raises(PhotoRejected, match="BMP") as caught:
            to_pixels(BODY[:5000], GEOMETRY, LIMITS)
        assert caught.value.reason == "corrupt_image"
        assert ends_early(BODY[:5000])
        assert not ends_early(BODY)

    def test_it_is_named_and_published(self) -> None:
        with pytest.raises(PhotoRejected, match="; JPEG, PNG, WebP, GIF, AVIF and Bitmap are read"):
            sniff(b"text", LIMITS)
        assert {"name": "BMP", "suffixes": (".bmp",), "by_default": True} in formats.published()["formats"]
        assert ".bmp" in formats.photo_suffixes()


def test_a_format_that_is_off_is_refused_with_what_turns_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    option = Option(lambda limits: limits.exact, "Bitmap is read with prepare.exact = true")
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, replace(BMP, option=option)))
    with pytest.raises(PhotoRejected, match=r"Bitmap is not allowed here; .*prepare\.exact = true") as caught:
        to_pixels(BODY, GEOMETRY, LIMITS)
    assert caught.value.reason == "unsupported_format"
    with pytest.raises(PhotoRejected, match="GIF and AVIF are read"):
        sniff(b"text", LIMITS)
    assert to_pixels(BODY, GEOMETRY, replace(LIMITS, exact=True)).shape == (224, 224, 3)


@pytest.mark.parametrize("forgotten", [field.name for field in fields(Format)])
def test_an_entry_that_lacks_anything_cannot_be_written(forgotten: str) -> None:
    given = {field.name: getattr(BMP, field.name) for field in fields(Format) if field.name != forgotten}
    with pytest.raises(TypeError, match=forgotten):
        Format(**given)


def test_names_and_suffixes_are_those_of_one_format() -> None:
    suffixes = [suffix for each in FORMATS for suffix in each.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert len({each.name for each in FORMATS}) == len(FORMATS)
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)
    assert formats.UNREAD_SUFFIXES.isdisjoint(suffixes)


def image_opens(folder: Path) -> Iterator[tuple[str, bool]]:
    """Where the code in a folder has Pillow choose a plugin, tests aside, and whether it names the formats."""
    for path in folder.rglob("*.py"):
        if path.name.startswith("test_") or "Image" not in (text := path.read_text()):
            continue
        tree = ast.parse(text)
        named = {
            id(node.func)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and any(each.arg == "formats" for each in node.keywords)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(("Image.open", "ImageFile.Parser")):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", id(node) in named


def test_nothing_in_the_service_opens_images_of_every_format_that_pillow_has() -> None:
    assert list(image_opens(ROOT / "consumer")) == []


@pytest.mark.parametrize("folder", ["benchmarks", "scripts", "tests"])
def test_helpers_name_the_formats_that_they_open(folder: str) -> None:
    assert [place for place, named in image_opens(ROOT / folder) if not named] == []


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.eps", "a.gif"])
def test_postscript_under_any_name_starts_no_program(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghostscript, ran = tmp_path / "gs", tmp_path / "ran"
    ghostscript.write_text(f"#!/bin/sh\ntouch {ran}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / name
    path.write_bytes(encoded(photo(64, 48), "EPS"))
    body = path.read_bytes()
    assert explain(body, [GEOMETRY], LIMITS).outcome == "unsupported_format"
    assert thumbnail(body) is None
    assert partial_thumbnail(body) is None
    photos, ledger = [DemoPhoto("a", name, "", path)], Ledger({"a": 1})
    pictures = page.draw(photos, ledger, lambda: None)
    page.write(tmp_path / "gallery.html", photos, ledger, pictures, {}, notice="")
    assert not ran.exists()
    with Image.open(path) as image, contextlib.suppress(OSError):
        image.load()
    assert ran.exists(), "the trap does not work"


@pytest.mark.parametrize("name", ["WEBP", "GIF", "AVIF"])
def test_fifty_megapixels_of_little_data_are_within_the_usual_limits(name: str) -> None:
    form = next(each for each in FORMATS if each.name == name)
    cost = form.cost(None, Stored(10_000, 5_000, "RGB", "", False, 100_000, 1, [224]))
    assert cost.memory_bytes <= LIMITS.max_decode_bytes
    assert cost.cpu_s <= LIMITS.max_decode_cpu_s
