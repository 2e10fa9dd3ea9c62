"""Sweep: finds entries of the indexes that do not agree with their photo's hash, and removes or repairs them.

The writing script keeps hash and index consistent, so orphans come from outside: a hash that expired or was deleted by
hand, a restored backup. It scans in bounded steps, between which Redis serves other clients.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Final

from consumer.redis.commands import Script
from consumer.redis.failures import Failures, is_wrong_type
from consumer.redis.schema import BUCKETS, index_prefix, names_in, quality_key
from consumer.redis.thread_link import ThreadLink

_BATCH: Final = 500
_INDEX_KEY: Final = re.compile(r"(?:b:\{([0-9]{2})\}:(.*)|q:\{([0-9]{2})\})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the index of a brand, or of the good photos: `brand` is None there."""

    bucket: str
    brand: str | None
    photo_id: str
    score: float

    @property
    def keys(self) -> tuple[str, str]:
        """The photo's hash in the bucket of the index, and the index: an entry in a wrong bucket has no photo."""
        index = quality_key(self.bucket) if self.brand is None else index_prefix(self.bucket) + self.brand
        return f"p:{{{self.bucket}}}:{self.photo_id}", index


@dataclass(frozen=True, slots=True)
class SweepResult:
    """Entries checked, wrong ones, and what the script did with those (nothing in a dry run)."""

    entries: int
    orphans: int
    outcomes: dict[str, int]


def sweep(
    url: str, *, timeout_s: float, execute: bool, found: Callable[[Entry], None], cluster: bool = False
) -> SweepResult:
    """Checks every entry of every index; with `execute`, also removes or repairs wrong ones.

    `found` is called with each wrong entry. An entry that is written concurrently may be reported, but is not changed:
    the script checks again. While a cluster moves slots, entries of those may be missed.

    Raises:
        DependencyDown: Redis does not answer, or the slot of a wrong entry is split between two nodes.
    """
    entries, orphans, outcomes = 0, 0, Counter[str]()
    script = Script("sweep.lua")
    with Failures(url).mapped(), closing(ThreadLink(url, timeout_s, cluster=cluster)) as link:
        for batch in _batches(_entries(link)):
            entries += len(batch)
            wrong = _wrong(link, batch)
            orphans += len(wrong)
            for entry in wrong:
                found(entry)
            if execute and wrong:
                outcomes.update(_repair(link, script, wrong))
    return SweepResult(entries, orphans, dict(sorted(outcomes.items())))


def _entries(link: ThreadLink) -> Iterator[Entry]:
    """Scans the indexes.

    Yields:
        Every entry, some twice; SCAN and ZSCAN miss none that exists throughout.
    """
    for key in link.scan("[bq]:{*", "zset", _BATCH):
        parts = _INDEX_KEY.fullmatch(key)
        bucket = parts and (parts[1] or parts[3])
        if parts is None or not bucket or int(bucket) >= BUCKETS:
            continue
        for photo_id, score in _members(link, key):
            yield Entry(bucket, parts[2], photo_id, float(score))


def _members(link: ThreadLink, key: str) -> Iterator[tuple[str, float]]:
    cursor: int | None = None
    while cursor != 0:
        (page,) = link.run([("ZSCAN", key, cursor or 0, "COUNT", _BATCH)])
        if is_wrong_type(page):
            return
        cursor, members = page
        yield from members


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while batch := list(islice(entries, _BATCH)):
        yield batch


def _wrong(link: ThreadLink, entries: Sequence[Entry]) -> list[Entry]:
    """The entries whose hash is gone, no hash, a tombstone, without that brand or not good, or of another quality."""
    hashes = link.run([("HMGET", entry.keys[0], "q", "brands", "del", "qg") for entry in entries])
    return [entry for entry, fields in zip(entries, hashes, strict=True) if not _agrees(entry, fields)]


def _agrees(entry: Entry, fields: Sequence[str | None] | Exception) -> bool:
    if isinstance(fields, Exception):
        return False
    quality, brands, deleted, good = fields
    if quality is None or brands is None or deleted == "1":
        return False
    try:
        names = names_in(brands)
        return (good == "1" if entry.brand is None else entry.brand in names) and float(quality) == entry.score
    except ValueError:
        return False


def _repair(link: ThreadLink, script: Script, entries: Sequence[Entry]) -> list[str]:
    calls = [script.call(each.keys, [each.photo_id, *([] if each.brand is None else [each.brand])]) for each in entries]
    return link.run(calls, script)
