"""The reader for ad-targeting services: tags of one photo or many, and the best photos of a brand. Synchronous, small.

It needs Redis alone, none of the service's settings. Services in other languages read the same keys, which
`docs/contracts.md` describes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nlargest
from typing import Any, Final, Self

import orjson
import redis

from consumer import layout
from consumer.events import Tags

_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Found:
    """A photo that shows the brand that was asked for, and its quality score 0..1."""

    photo_id: str
    quality: float


class TagReader:
    """Reads tags from Redis. A context manager that owns its connections; safe to share between threads."""

    def __init__(self, url: str, *, timeout_s: float = 2.0) -> None:
        self._redis = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def get(self, photo_id: str) -> Tags | None:
        """The tags of one photo, None where it has none (yet) or was deleted.

        `Tags.probabilities` is empty: all probabilities are in the result topic only.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        return self.get_many([photo_id]).get(photo_id)

    def get_many(self, photo_ids: Iterable[str]) -> dict[str, Tags]:
        """The tags of many photos, by id; ids without tags are left out. One round trip for every 500.

        Raises:
            redis.RedisError: as `get`.
        """
        wanted = list(dict.fromkeys(photo_ids))
        found: dict[str, Tags] = {}
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            pipeline: Any = self._redis.pipeline(transaction=False)
            for photo_id in chunk:
                pipeline.hgetall(layout.photo_key(photo_id))
            for photo_id, fields in zip(chunk, pipeline.execute(), strict=True):
                tags = layout.tags_of(photo_id, fields)
                if tags is not None:
                    found[photo_id] = tags
        return found

    def find(self, brand: str, min_quality: float = 0.0, *, limit: int = 100) -> list[Found]:
        """The best photos that show a brand, best first, at most `limit` of at least `min_quality`.

        Photos that the index names but that have no such tags (any more) are left out, so that a page may be shorter
        until the sweeper ran.

        Raises:
            redis.RedisError: as `get`.
            ValueError: `limit` is below 1, or something else writes to these keys.
        """
        if limit < 1:
            raise ValueError("limit must be at least 1")
        pipeline: Any = self._redis.pipeline(transaction=False)
        for key in layout.brand_keys(brand):
            pipeline.zrevrangebyscore(key, "+inf", min_quality, start=0, num=limit, withscores=True)
        candidates = (Found(photo_id, float(score)) for bucket in pipeline.execute() for photo_id, score in bucket)
        return self._shown(brand, nlargest(limit, candidates, key=lambda found: (found.quality, found.photo_id)))

    def _shown(self, brand: str, page: list[Found]) -> list[Found]:
        """The photos whose hash lists the brand."""
        pipeline: Any = self._redis.pipeline(transaction=False)
        for found in page:
            pipeline.hget(layout.photo_key(found.photo_id), "brands")
        return [
            found
            for found, brands in zip(page, pipeline.execute(), strict=True)
            if brands is not None and brand in orjson.loads(brands)
        ]
