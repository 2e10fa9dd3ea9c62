"""The synchronous reader for ad-targeting services: tags of one photo or many, and the best photos of a brand.

Its only dependency is `redis`, and it reads none of the service's settings. Services in other languages read the same
keys, see `docs/contracts.md`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import nlargest
from typing import Any, Final, Self

from redis import RedisError

from consumer.redis.failures import is_wrong_type
from consumer.redis.schema import brand_keys, decision_of, names_in, photo_key
from consumer.redis.thread_link import ThreadLink
from consumer.tags import Brand, Quality, Source, Tags

__all__ = ["Brand", "Found", "Quality", "RedisError", "Source", "TagReader", "Tags"]

_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Found:
    """A photo that shows the requested brand, and its quality score 0..1."""

    photo_id: str
    quality: float


def ignore(_: str) -> None:
    """Tells nobody."""


class TagReader:
    """Reads tags from Redis. A context manager that owns its connections; safe to share between threads.

    With `cluster`, the URL names a node of a Redis Cluster; the reader finds the others and follows moving slots.
    A key that another program wrote, or damaged, counts as missing: `unreadable` is called with a sentence that names
    it and says why.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 2.0,
        cluster: bool = False,
        unreadable: Callable[[str], None] = ignore,
    ) -> None:
        self._redis = ThreadLink(url, timeout_s, cluster=cluster)
        self._unreadable = unreadable

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def get(self, photo_id: str) -> Tags | None:
        """The tags of one photo, None where it has none (yet) that can be read, or was deleted.

        `Tags.probabilities` is empty: all probabilities are in the result topic only.

        Raises:
            RedisError: Redis does not answer.
        """
        return self.get_many([photo_id]).get(photo_id)

    def get_many(self, photo_ids: Iterable[str]) -> dict[str, Tags]:
        """The tags of many photos, by id; ids without tags are left out. One round trip (of each node) for every 500.

        Raises:
            RedisError: as `get`.
        """
        wanted = [photo_id for photo_id in dict.fromkeys(photo_ids) if _is_id(photo_id)]
        found: dict[str, Tags] = {}
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            hashes = self._redis.run([("HGETALL", photo_key(photo_id)) for photo_id in chunk])
            for photo_id, fields in zip(chunk, hashes, strict=True):
                tags = self._tags(photo_id, fields)
                if tags is not None:
                    found[photo_id] = tags
        return found

    def _tags(self, photo_id: str, fields: Mapping[str, str] | Exception) -> Tags | None:
        if isinstance(fields, Exception):
            self._unreadable(f"key {photo_key(photo_id)} is not a hash")
            return None
        try:
            decision = decision_of(photo_id, fields)
        except ValueError as error:
            self._unreadable(str(error))
            return None
        return decision if isinstance(decision, Tags) else None

    def find(self, brand: str, min_quality: float = 0.0, *, limit: int = 100) -> list[Found]:
        """The best photos that show a brand, best first, at most `limit` of at least `min_quality`.

        Index entries whose photo has no such tag (any more) are left out, so a page may be shorter until the next
        sweep.

        Raises:
            RedisError: as `get`.
            ValueError: `limit` is below 1.
        """
        if limit < 1:
            raise ValueError("limit must be at least 1")
        best = ("+inf", min_quality, "WITHSCORES", "LIMIT", 0, limit)
        keys = brand_keys(brand)
        candidates = []
        for key, page in zip(keys, self._redis.run([("ZREVRANGEBYSCORE", key, *best) for key in keys]), strict=True):
            if is_wrong_type(page):
                self._unreadable(f"key {key} is not a sorted set")
                continue
            candidates += [Found(photo_id, float(score)) for photo_id, score in _pairs(page) if _is_id(photo_id)]
        return self._shown(brand, nlargest(limit, candidates, key=lambda found: (found.quality, found.photo_id)))

    def _shown(self, brand: str, page: list[Found]) -> list[Found]:
        """The photos whose hash lists the brand."""
        answers = self._redis.run([("HGET", photo_key(found.photo_id), "brands") for found in page])
        return [found for found, brands in zip(page, answers, strict=True) if _lists(brands, brand)]


def _is_id(text: str) -> bool:
    """Whether a text can be a photo id: one with the escapes of bytes that are not UTF-8 cannot."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _lists(brands: object, brand: str) -> bool:
    try:
        return isinstance(brands, str) and brand in names_in(brands)
    except ValueError:
        return False


def _pairs(page: list[Any]) -> Iterator[tuple[str, Any]]:
    """Members and scores; RESP3 sends them in pairs, RESP2 (`?protocol=2` in the URL) one after the other."""
    return iter(page) if page and isinstance(page[0], list) else zip(page[::2], page[1::2], strict=True)
