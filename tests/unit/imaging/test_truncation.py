import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from consumer.imaging.formats import ends_early


def encoded(form: str, **options: object) -> bytes:
    image = Image.effect_noise((64, 48), 80).convert("RGB")
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


THUMBNAIL = encoded("JPEG")
EXIF = b"Exif\0\0" + THUMBNAIL
WITH_THUMBNAIL = THUMBNAIL[:2] + b"\xff\xe1" + struct.pack(">H", len(EXIF) + 2) + EXIF + THUMBNAIL[2:]
PHOTOS = {
    "JPEG": encoded("JPEG"),
    "progressive JPEG": encoded("JPEG", progressive=True),
    "JPEG with a thumbnail": WITH_THUMBNAIL,
    "PNG": encoded("PNG"),
    "GIF": encoded("GIF"),
    "WebP": encoded("WEBP"),
    "lossless WebP": encoded("WEBP", lossless=True),
    "AVIF": encoded("AVIF"),
}


@pytest.mark.parametrize("name", PHOTOS)
def test_a_whole_photo_has_its_end_also_with_something_behind_it(name: str) -> None:
    assert not ends_early(PHOTOS[name])
    if name not in {"AVIF", "GIF"}:
        assert not ends_early(PHOTOS[name] + b"trailing bytes of a camera")


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_photo_that_was_cut_lacks_its_end(name: str, share: float) -> None:
    body = PHOTOS[name]
    assert ends_early(body[: int(len(body) * share)])


@given(st.binary(max_size=200), st.sampled_from([b"", *(body[:20] for body in PHOTOS.values())]))
def test_any_bytes_are_judged(tail: bytes, head: bytes) -> None:
    assert ends_early(head + tail) in {True, False}
