"""The score cache on a real Redis stays within its bound, and never gives a photo the scores of another."""

from collections import Counter

import numpy as np
import pytest

from consumer.events import Photo, Scores
from consumer.redis.score_cache import ScoreCache
from tests.fakes import CONTRACT
from tests.harness_redis import RedisPlace

pytestmark = pytest.mark.parametrize("place", ["default", "cluster"], indirect=True)


async def judge(photo: Photo) -> Scores:
    """Scores that are the content's own."""
    number = int(photo.body)
    return Scores(number / 1000, np.array([number / 1000, 0.25, 0.5], np.float32), CONTRACT.models)


class Bench:
    """A cache of few places on a Redis."""

    def __init__(self, place: RedisPlace, max_entries: int, fingerprint: str = "one") -> None:
        self.counted: Counter[str] = Counter()
        self.place, self.fingerprint = place, fingerprint
        self.cache = ScoreCache(
            place.url,
            ttl_s=60,
            max_entries=max_entries,
            timeout_s=5.0,
            cluster=place.cluster is not None,
            count=lambda result: self.counted.update([result]),
        )

    async def score(self, numbers: range) -> Counter[str]:
        """Scores contents, checks every answer, and says what the cache did."""
        self.counted.clear()
        for number in numbers:
            photo = Photo(f"photo-{number}", "https://photos.example/1.jpg", str(number).encode())
            expected, given = await judge(photo), await self.cache.score(CONTRACT, self.fingerprint, photo, judge)
            assert given.quality_score == expected.quality_score
            assert given.brand_probs.tobytes() == expected.brand_probs.tobytes()
        return self.counted

    def entries(self) -> int:
        with self.place.masters() as masters:
            return sum(len(master.keys("c:*")) for master in masters)


async def test_ten_times_more_contents_than_places_keep_the_bound_and_get_their_own_scores(place: RedisPlace) -> None:
    bench = Bench(place, 50)
    async with bench.cache:
        assert (await bench.score(range(500)))["miss"] == 500
        kept = bench.entries()
        assert 40 <= kept <= 50
        # The last of each place is there; from the last to the first, each is asked for before another one replaces it.
        again = await bench.score(range(499, -1, -1))
        assert again == {"hit": kept, "miss": 500 - kept}
        assert bench.entries() == kept


async def test_fewer_contents_than_places_are_mostly_known_again(place: RedisPlace) -> None:
    bench = Bench(place, 1_000)
    async with bench.cache:
        await bench.score(range(100))
        assert (await bench.score(range(100)))["hit"] > 85


async def test_other_models_see_nothing_of_these_and_share_the_bound(place: RedisPlace) -> None:
    first, second = Bench(place, 50), Bench(place, 50, fingerprint="two")
    async with first.cache, second.cache:
        await first.score(range(100))
        assert (await second.score(range(100)))["hit"] == 0
    assert second.entries() <= 50
