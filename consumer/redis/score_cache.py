"""The score cache: a copy of a photo that was judged before is neither decoded nor inferred again.

It keeps scores, not tags: thresholds, ids and versions are applied to each photo, so a copy gets the tags that it would
get without the cache. Where the cache fails, the photo is judged.

It is direct-mapped: a hash of the content picks one of `max_entries` places, and a later entry overwrites an earlier
one. So its size is bounded whatever Redis' settings are, it costs one GET and one SET, and it needs no record of use.
After as many new contents as there are places, 37 % of the entries are left.
"""

import asyncio
import hashlib
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Literal

import numpy as np
import orjson

from consumer import __version__
from consumer.contract import ModelContract
from consumer.events import Photo, Scores
from consumer.redis.async_link import AsyncLink
from consumer.redis.failures import FAILURES

#: `shared`: another photo with the same bytes was being judged at that moment.
CacheResult = Literal["hit", "miss", "shared", "failed"]
Judge = Callable[[Photo], Awaitable[Scores]]

#: Up to this size, hashing costs less than a switch of threads: 64 KiB take 0.04 ms.
_INLINE_BYTES: Final = 64 * 1024
#: CRC-32 of the rest, identity, quality score; the brands' float32 probabilities follow.
_HEAD: Final = struct.Struct("<I32sd")
_CHECKSUM_BYTES: Final = 4


class ScoreCache(AbstractAsyncContextManager["ScoreCache"]):
    """Scores by content in Redis. An async context manager that owns the connections.

    An entry of another `fingerprint` (see that function) is a miss. Entries expire after `ttl_s`, or when another one
    takes their place among the `max_entries`.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl_s: int,
        max_entries: int,
        timeout_s: float,
        count: Callable[[CacheResult], None],
        cluster: bool = False,
    ) -> None:
        self._redis = AsyncLink(url, timeout_s, cluster=cluster)
        self._ttl_s = ttl_s
        self._max_entries = max_entries
        self._count = count
        self._running: dict[bytes, asyncio.Future[Scores | None]] = {}

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    async def score(self, contract: ModelContract, fingerprint: str, photo: Photo, judge: Judge) -> Scores:
        """The scores of a photo under a contract, from `judge` where its bytes are new; copies are judged once.

        What `judge` raises passes through, for this photo alone; the cache itself raises nothing.
        """
        identity = await _identity(fingerprint, photo.body)
        if identity in self._running and (scores := await asyncio.shield(self._running[identity])) is not None:
            self._count("shared")
            return scores
        ready: asyncio.Future[Scores | None] = asyncio.get_running_loop().create_future()
        self._running[identity] = ready
        try:
            scores = await self._recalled_or_judged(contract, identity, photo, judge)
            ready.set_result(scores)
            return scores
        finally:
            if not ready.done():
                ready.set_result(None)
            if self._running.get(identity) is ready:
                del self._running[identity]

    async def _recalled_or_judged(self, contract: ModelContract, identity: bytes, photo: Photo, judge: Judge) -> Scores:
        key = key_of(identity, self._max_entries)
        try:
            (value,) = await self._redis.run([("GET", key)])
            if isinstance(value, Exception):
                raise value
        except FAILURES:
            self._count("failed")
            # The write of the tags will notice an outage of Redis and wait.
            return await judge(photo)
        scores = None if value is None else decode(value, identity, contract)
        if scores is not None:
            self._count("hit")
            return scores
        scores = await judge(photo)
        try:
            await self._redis.run([("SET", key, encode(scores, identity), "EX", self._ttl_s)])
        except FAILURES:
            self._count("failed")
        else:
            self._count("miss")
        return scores


async def judged(photo: Photo, judge: Judge) -> Scores:
    """The scores without a cache."""
    return await judge(photo)


def fingerprint(contract: ModelContract, limits: Mapping[str, object]) -> str:
    """12 hexadecimal digits that change with everything that decides the scores of given bytes or their rejection.

    That is the models and their versions, the geometry of each, the labels, `limits` (the settings of `prepare`) and
    the version of this program. A model's pixels depend on the other's geometry too: the larger decides the scale at
    which a JPEG is decoded.
    """
    geometries = {name: [each.input_size, each.resize_short_side] for name, each in contract.geometries.items()}
    parts = [__version__, contract.models, geometries, contract.brand_labels, limits]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def key_of(identity: bytes, max_entries: int) -> str:
    """The place of an entry: `c:<number below max_entries>`."""
    return f"c:{int.from_bytes(identity[:8], 'little') % max_entries}"


def encode(scores: Scores, identity: bytes) -> bytes:
    """CRC-32, identity, quality as float64, probabilities as float32, little-endian: 44 bytes, and 4 for each brand."""
    probabilities = scores.brand_probs.astype("<f4").tobytes()
    body = struct.pack("<32sd", identity, scores.quality_score) + probabilities
    return struct.pack("<I", zlib.crc32(body)) + body


def decode(value: bytes, identity: bytes, contract: ModelContract) -> Scores | None:
    """What `encode` wrote; None where it is of another content, damaged, or has another number of brands."""
    if len(value) != _HEAD.size + 4 * len(contract.brand_labels):
        return None
    checksum, present, quality = _HEAD.unpack_from(value)
    if present != identity or checksum != zlib.crc32(value[_CHECKSUM_BYTES:]):
        return None
    probabilities = np.frombuffer(value, "<f4", offset=_HEAD.size).astype(np.float32)
    return Scores(quality, probabilities, contract.models)


async def _identity(fingerprint: str, body: bytes) -> bytes:
    """SHA-256 of the fingerprint and the content."""
    if len(body) <= _INLINE_BYTES:
        return _hashed(fingerprint, body)
    return await asyncio.to_thread(_hashed, fingerprint, body)


def _hashed(fingerprint: str, body: bytes) -> bytes:
    digest = hashlib.sha256(fingerprint.encode())
    digest.update(body)
    return digest.digest()
