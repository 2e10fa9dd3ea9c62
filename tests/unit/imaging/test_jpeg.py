"""How the bytes of a JPEG reach its decoder."""

import io

import pytest

from consumer.errors import PhotoRejected
from consumer.imaging.formats import sniff
from consumer.imaging.jpeg import read_jpeg
from consumer.imaging.limits import PrepareLimits
from tests.unit.photos import encoded, photo


class CountedReads(io.BytesIO):
    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_given_to_its_decoder_at_once(progressive: bool) -> None:
    body = encoded(photo(800, 600), "JPEG", quality=98, progressive=progressive)
    assert len(body) > 2 * 65_536
    source = CountedReads(body)
    with sniff(body, PrepareLimits()).reader(source) as image:
        of_the_header = source.reads
        image.load()
    assert source.reads == of_the_header + 1


@pytest.mark.parametrize("kind", [3, 5, 9, 11, 55])
def test_a_jpeg_of_a_kind_that_is_not_read_is_no_damaged_one(kind: int) -> None:
    body = encoded(photo(32, 32), "JPEG").replace(b"\xff\xc0", bytes([0xFF, 0xC0 + kind]), 1)
    with pytest.raises(PhotoRejected, match=f"SOF{kind} of 8 bits") as refused:
        read_jpeg(body, 100)
    assert refused.value.reason == "unsupported_format"
