"""How the bytes of a JPEG reach its decoder."""

import io

import pytest

from consumer.imaging.formats import sniff
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
