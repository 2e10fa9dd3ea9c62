"""The sweeper: finds entries of the brand indexes whose photo does not say so, and removes or repairs them.

The writing script keeps hash and index in step, so orphans come from outside: a hash that expired or was deleted by
hand, a restored backup. Everything is scanned in bounded steps, Redis serves others meanwhile.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from typing import Any, Final

import orjson
import redis

from consumer.errors import DependencyDown
from consumer.layout import BUCKETS, index_prefix

_SCRIPT: Final = "sweep.lua"
_BATCH: Final = 500
_INDEX_KEY: Final = re.compile(r"b:\{(\d\d)\}:(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a brand index."""

    bucket: str
    brand: str
    photo_id: str
    score: float

    @property
    def keys(self) -> tuple[str, str]:
        """The photo's hash in the index's own bucket, and the index: an entry in a foreign bucket has no photo."""
        return f"p:{{{self.bucket}}}:{self.photo_id}", index_prefix(self.bucket) + self.brand


@dataclass(frozen=True, slots=True)
class SweepResult:
    """Entries looked at, those that were wrong, and what the script then did to them (nothing in a dry run)."""

    entries: int
    orphans: int
    outcomes: dict[str, int]


def sweep(url: str, *, timeout_s: float, execute: bool, found: Callable[[Entry], None]) -> SweepResult:
    """Looks at every entry of every brand index; `execute` also removes or repairs those that are wrong.

    `found` is called with each wrong entry. An entry that is written while the sweep looks at it may be reported, but
    is never harmed: the script looks again.

    Raises:
        DependencyDown: Redis does not answer.
    """
    entries, orphans, outcomes = 0, 0, Counter[str]()
    try:
        client = redis.Redis.from_url(
            url,
            decode_responses=True,
            encoding_errors="surrogateescape",
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
        )
        with client:
            script = client.register_script(files("consumer").joinpath(_SCRIPT).read_text(encoding="utf-8"))
            for batch in _batches(_entries(client)):
                entries += len(batch)
                wrong = _wrong(client, batch)
                orphans += len(wrong)
                for entry in wrong:
                    found(entry)
                if execute and wrong:
                    outcomes.update(_mend(client, script, wrong))
    except (redis.RedisError, OSError) as error:
        raise DependencyDown("redis", f"{type(error).__name__}: {error}") from None
    return SweepResult(entries, orphans, dict(sorted(outcomes.items())))


def _entries(client: Any) -> Iterator[Entry]:  # noqa: ANN401 - redis-py's answers are typed for both its modes
    """Scans the indexes.

    Yields:
        Every entry; SCAN and ZSCAN name some twice and miss none that is there throughout.
    """
    for key in client.scan_iter(match="b:{*", count=_BATCH, _type="zset"):
        parts = _INDEX_KEY.fullmatch(key)
        if parts is None or int(parts[1]) >= BUCKETS:
            continue
        for photo_id, score in client.zscan_iter(key, count=_BATCH):
            yield Entry(parts[1], parts[2], photo_id, float(score))


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while batch := list(islice(entries, _BATCH)):
        yield batch


def _wrong(client: Any, entries: Sequence[Entry]) -> list[Entry]:  # noqa: ANN401 - as above
    """The entries whose hash is gone, a tombstone, without that brand, or of another quality; one round trip."""
    pipeline = client.pipeline(transaction=False)
    for entry in entries:
        pipeline.hmget(entry.keys[0], "q", "brands", "del")
    return [entry for entry, fields in zip(entries, pipeline.execute(), strict=True) if not _agrees(entry, *fields)]


def _agrees(entry: Entry, quality: str | None, brands: str | None, deleted: str | None) -> bool:
    if quality is None or brands is None or deleted == "1":
        return False
    try:
        return entry.brand in orjson.loads(brands) and float(quality) == entry.score
    except (TypeError, ValueError):
        return False


def _mend(client: Any, script: Any, entries: Sequence[Entry]) -> list[str]:  # noqa: ANN401 - as above
    pipeline = client.pipeline(transaction=False)
    for entry in entries:
        script(keys=entry.keys, args=[entry.photo_id, entry.brand], client=pipeline)
    outcomes: list[str] = pipeline.execute()
    return outcomes
