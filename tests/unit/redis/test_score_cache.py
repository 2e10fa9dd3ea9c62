"""Scores of known bytes: exact, refused when damaged, judged once, and never a reason to fail a photo."""

import asyncio
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.contract import Geometry, ModelContract
from consumer.errors import PhotoRejected
from consumer.events import Photo, Scores
from consumer.redis import score_cache
from consumer.redis.score_cache import CacheResult, ScoreCache, fingerprint
from tests.fakes import CONTRACT

LIMITS: dict[str, object] = {"max_pixels": 50_000_000, "timeout_s": 20.0}
SCORES = Scores(0.75, np.array([0.9, 0.05, 0.05], np.float32), CONTRACT.models)
PHOTO = Photo("photo-1", "https://photos.example/1.jpg", b"jpeg")
IDENTITY = bytes(range(32))
unit = st.floats(0, 1, width=32)


@given(unit, st.lists(unit, min_size=3, max_size=3))
def test_scores_come_back_exactly(quality: float, brands: list[float]) -> None:
    scores = Scores(quality, np.array(brands, np.float32), CONTRACT.models)
    kept = score_cache.decode(score_cache.encode(scores, IDENTITY), IDENTITY, CONTRACT)
    assert kept is not None
    assert (kept.quality_score, kept.models) == (quality, CONTRACT.models)
    assert kept.brand_probs.dtype == np.float32
    assert kept.brand_probs.tobytes() == scores.brand_probs.tobytes()


@given(st.binary(max_size=80))
def test_what_is_not_ours_is_unknown(value: bytes) -> None:
    assert score_cache.decode(value, IDENTITY, CONTRACT) is None


@given(st.integers(0, len(score_cache.encode(SCORES, IDENTITY)) * 8 - 1))
def test_no_flipped_bit_goes_unnoticed(bit: int) -> None:
    value = bytearray(score_cache.encode(SCORES, IDENTITY))
    value[bit // 8] ^= 1 << bit % 8
    assert score_cache.decode(bytes(value), IDENTITY, CONTRACT) is None


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.integers(1, 1_000_000))
def test_another_content_in_the_same_place_is_a_miss(one: bytes, other: bytes, places: int) -> None:
    kept = score_cache.decode(score_cache.encode(SCORES, one), other, CONTRACT)
    assert (kept is None) == (one != other)
    assert 0 <= int(score_cache.key_of(one, places).removeprefix("c:")) < places


@pytest.mark.parametrize(
    "other",
    [
        replace(CONTRACT, quality_version="4"),
        replace(CONTRACT, brand_version="8"),
        replace(CONTRACT, brand_model="other"),
        replace(CONTRACT, quality_geometry=Geometry(32, 33)),
        replace(CONTRACT, brand_geometry=Geometry(31, 32)),
        replace(CONTRACT, quality_geometry=Geometry(64, 64), brand_geometry=Geometry(64, 64)),
        replace(CONTRACT, brand_labels=("azure", "crimson", "no_logo")),
    ],
)
def test_whatever_changes_the_scores_changes_the_fingerprint(other: ModelContract) -> None:
    assert fingerprint(other, LIMITS) != fingerprint(CONTRACT, LIMITS)


def test_the_geometries_of_the_models_exchanged_are_another_fingerprint() -> None:
    one = replace(CONTRACT, quality_geometry=Geometry(64, 64))
    other = replace(CONTRACT, brand_geometry=Geometry(64, 64))
    assert fingerprint(one, LIMITS) != fingerprint(other, LIMITS)


def test_whatever_refuses_a_photo_changes_the_fingerprint() -> None:
    assert fingerprint(CONTRACT, {**LIMITS, "max_pixels": 1}) != fingerprint(CONTRACT, LIMITS)


def test_a_changed_threshold_needs_no_new_inference() -> None:
    assert fingerprint(replace(CONTRACT, brand_threshold=0.9), LIMITS) == fingerprint(CONTRACT, LIMITS)


MARK = fingerprint(CONTRACT, LIMITS)


class Bench:
    """A cache whose Redis is down, so that only copies in work at once are shared."""

    def __init__(self) -> None:
        self.counted: Counter[CacheResult] = Counter()
        self.judged = 0
        self.started, self.release = asyncio.Event(), asyncio.Event()
        self.cache = ScoreCache(
            "redis://127.0.0.1:1/0",
            ttl_s=60,
            max_entries=100,
            timeout_s=5.0,
            count=lambda result: self.counted.update([result]),
        )

    async def judge(self, photo: Photo) -> Scores:
        self.judged += 1
        self.started.set()
        await self.release.wait()
        if photo.photo_id == "bad":
            raise PhotoRejected("corrupt_image", "cut off")
        return SCORES


async def test_a_cache_that_is_down_costs_nothing_but_the_work() -> None:
    bench = Bench()
    bench.release.set()
    async with bench.cache as known:
        assert await known.score(CONTRACT, MARK, PHOTO, bench.judge) is SCORES
        assert await known.score(CONTRACT, MARK, PHOTO, bench.judge) is SCORES
    assert bench.judged == 2
    assert bench.counted == {"failed": 2}


async def test_copies_in_work_at_once_are_judged_once() -> None:
    bench = Bench()
    async with bench.cache as known:
        copies = [
            asyncio.create_task(known.score(CONTRACT, MARK, replace(PHOTO, photo_id=f"p{n}"), bench.judge))
            for n in range(20)
        ]
        await bench.started.wait()
        bench.release.set()
        assert all(scores is SCORES for scores in await asyncio.gather(*copies))
    assert bench.judged == 1
    assert bench.counted == {"failed": 1, "shared": 19}


@pytest.mark.parametrize("cancelled", [True, False])
async def test_what_befalls_one_photo_is_not_its_copies_fault(cancelled: bool) -> None:
    bench = Bench()
    async with bench.cache as known:
        first = asyncio.create_task(known.score(CONTRACT, MARK, replace(PHOTO, photo_id="bad"), bench.judge))
        await bench.started.wait()
        copies = [asyncio.create_task(known.score(CONTRACT, MARK, PHOTO, bench.judge)) for _ in range(3)]
        await asyncio.sleep(0)
        if cancelled:
            first.cancel()
            await asyncio.wait([first])
        bench.release.set()
        assert all(scores is SCORES for scores in await asyncio.gather(*copies))
        with pytest.raises(asyncio.CancelledError if cancelled else PhotoRejected):
            await first


async def test_a_large_photo_has_the_same_key_as_a_small_one_would() -> None:
    bench = Bench()
    bench.release.set()
    async with bench.cache as known:
        assert await known.score(CONTRACT, MARK, replace(PHOTO, body=bytes(1 << 20)), bench.judge) is SCORES
