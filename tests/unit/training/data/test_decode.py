"""Only the service's formats are opened, and a photo is turned as the service turns it."""

import ast
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, ExifTags, Image

from tests.photo_folders import photo
from training.data.decode import decode
from training.data.inspect import Broken, inspect
from training.data.photos import Photo
from training.errors import Unreadable
from training.trial.photos import shown

ROOT = Path(__file__).parents[4]
#: A camera's orientation "turn right" in XMP, as editors leave it behind.
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `gs` on PATH; the file that it would leave behind."""
    trace, folder = tmp_path / "gs-ran", tmp_path / "bin"
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\n: > {trace}\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return trace


def postscript() -> bytes:
    stream = io.BytesIO()
    photo(1, 0).save(stream, "EPS")
    return stream.getvalue()


@pytest.mark.parametrize("read", [lambda body: decode(body, 32), shown], ids=["training", "trial"])
@pytest.mark.parametrize(
    "body",
    [postscript(), b"\xc5\xd0\xd3\xc6" + bytes(26) + postscript(), b"\xff\xd8\xff" + postscript()],
    ids=["EPS", "EPS of Windows", "EPS that begins like a JPEG"],
)
def test_postscript_starts_no_program(ghostscript: Path, body: bytes, read: Callable[[bytes], object]) -> None:
    with pytest.raises(Unreadable):
        read(body)
    assert not ghostscript.exists()
    with pytest.raises(OSError, match=r"."), Image.open(io.BytesIO(postscript())) as opened:
        opened.load()  # what would have happened
    assert ghostscript.exists()


def test_a_postscript_file_named_like_a_photo_is_left_out(ghostscript: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(postscript())
    found = inspect(Photo("a", str(tmp_path / "a.jpg"), "here"))
    assert isinstance(found, Broken)
    assert found.kind == "no photo"
    assert not ghostscript.exists()


def test_every_image_open_names_its_formats() -> None:
    calls = [
        (path.name, node.lineno, {keyword.arg for keyword in node.keywords})
        for path in (ROOT / "training").rglob("*.py")
        if "Image.open" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
    ]
    assert calls
    assert not [call for call in calls if "formats" not in call[2]]


def turned(exif: int | None, xmp: bytes | None, *, header: bytes | None = None) -> bytes:
    """An AVIF of 40x20 pixels, its left half white; Pillow writes an orientation of Exif as `irot` and `imir`."""
    image, stream, tags = Image.new("RGB", (40, 20)), io.BytesIO(), Image.Exif()
    image.paste("white", (0, 0, 20, 20))
    tags[ExifTags.Base.ImageDescription] = "a bird"
    if exif is not None:
        tags[ExifTags.Base.Orientation] = exif
    options: dict[str, object] = {"exif": tags.tobytes()} if exif is not None or header is not None else {}
    image.save(stream, "AVIF", **options, **({"xmp": xmp} if xmp else {}))
    body = stream.getvalue()
    if header is not None:
        start = body.index(b"a bird")
        place = max(body.rfind(mark, 0, start) for mark in (b"MM\0*", b"II*\0"))
        body = body[:place] + header + body[place + 4 :]
    return body


@pytest.mark.parametrize("xmp", [None, XMP], ids=["no XMP", "stale XMP"])
@pytest.mark.parametrize(
    ("exif", "white"), [(None, "left"), (1, "left"), (2, "right"), (3, "right"), (6, "top"), (8, "bottom")]
)
def test_an_avif_is_turned_by_its_boxes_alone(exif: int | None, white: str, xmp: bytes | None) -> None:
    found = decode(turned(exif, xmp), 8)
    pixels = np.asarray(found.image).mean(2)
    halves = {"left": pixels[:, :20], "right": pixels[:, 20:], "top": pixels[:20], "bottom": pixels[20:]}
    assert (found.width, found.height) == ((20, 40) if white in {"top", "bottom"} else (40, 20))
    assert halves[white].mean() > 240
    assert pixels.mean() < 140


def u24(*values: int) -> bytes:
    return b"".join(value.to_bytes(3, "little") for value in values)


def animation(kind: str, *, alpha: bool) -> bytes:
    """An animation of 60x40 pixels whose first frame has 20x10 red ones at 10, 4."""
    frame, stream = Image.new("RGBA" if alpha else "RGB", (20, 10), "red"), io.BytesIO()
    if kind == "GIF":
        frame.convert("RGB").quantize(4).save(stream, "GIF")
        body = bytearray(stream.getvalue())
        place = body.index(b",", 13 + 3 * 2 ** ((body[10] & 7) + 1)) + 1
        body[6:10] = (60).to_bytes(2, "little") + (40).to_bytes(2, "little")
        body[place : place + 4] = (10).to_bytes(2, "little") + (4).to_bytes(2, "little")
        return bytes(body)
    frame.save(stream, "WEBP", lossless=True)
    pixels = stream.getvalue()[12:]
    chunks = {
        b"VP8X": bytes([0x12 if alpha else 0x02, 0, 0, 0]) + u24(59, 39),
        b"ICCP": bytes(6) + b"ANMF" * 4,
        b"ANIM": bytes(6),
        b"ANMF": u24(5, 2, 19, 9, 100) + b"\0" + pixels,
    }
    file = b"WEBP" + b"".join(name + len(data).to_bytes(4, "little") + data for name, data in chunks.items())
    return b"RIFF" + len(file).to_bytes(4, "little") + file


@pytest.mark.parametrize(("kind", "alpha"), [("GIF", False), ("WEBP", False), ("WEBP", True)])
def test_around_a_first_frame_that_is_smaller_than_its_canvas_is_white(kind: str, *, alpha: bool) -> None:
    pixels = np.asarray(decode(animation(kind, alpha=alpha), 8).image).astype(int)
    assert pixels.shape == (40, 60, 3)
    assert np.abs(pixels[4:14, 10:30] - (255, 0, 0)).max() <= 3
    around = np.ones((40, 60), bool)
    around[4:14, 10:30] = False
    assert (pixels[around] == 255).all()


@pytest.mark.parametrize("header", [b"MM\0\0", b"junk"])
def test_an_avif_with_broken_exif_is_read(header: bytes) -> None:
    assert decode(turned(None, None, header=header), 8).width == 40
