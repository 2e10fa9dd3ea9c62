import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.engine.header import HEADER_BYTES, MAGIC, plan_version
from training.errors import EngineUnfit

VERSIONS = st.tuples(*[st.integers(0, 255)] * 4)


def plan(version: tuple[int, ...], *, magic: int = MAGIC, word: int = 0, between: bytes = bytes(16)) -> bytes:
    return struct.pack("<II", magic, word) + between + bytes(version)


def test_the_first_bytes_spell_ftrt() -> None:
    assert plan((10, 15, 1, 29))[:4] == b"ftrt"
    assert plan_version(plan((10, 15, 1, 29))) == "10.15.1.29"


@given(version=VERSIONS, between=st.binary(min_size=16, max_size=16), rest=st.binary(max_size=64))
def test_the_version_is_read_whatever_stands_beside_it(
    version: tuple[int, int, int, int], between: bytes, rest: bytes
) -> None:
    assert plan_version(plan(version, between=between) + rest) == ".".join(map(str, version))


@given(st.binary(max_size=HEADER_BYTES - 1))
def test_what_is_cut_off_is_no_plan(head: bytes) -> None:
    with pytest.raises(EngineUnfit, match="cut off"):
        plan_version(head)


@given(st.binary(min_size=HEADER_BYTES, max_size=80).filter(lambda head: head[:8] != plan((0, 0, 0, 0))[:8]))
def test_other_bytes_are_no_plan(head: bytes) -> None:
    with pytest.raises(EngineUnfit, match="no TensorRT plan"):
        plan_version(head)


def test_a_second_word_that_is_not_zero_is_no_plan() -> None:
    with pytest.raises(EngineUnfit, match="no TensorRT plan"):
        plan_version(plan((11, 2, 1, 2), word=1))
