"""How tags are read: which commands are sent, and what the replies mean. No I/O.

Each reading is a generator of commands that all go in one round trip; it is sent their replies. `TagReader` and
`AsyncTagReader` carry them out, so that both do the same.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from typing import Any, Final, TypeVar

from consumer.reader.found import Found, Page, Place, Query, cursor_of, is_text
from consumer.redis.commands import Command
from consumer.redis.failures import is_wrong_type
from consumer.redis.schema import (
    bucket_names,
    decision_of,
    index_prefix,
    level_in,
    names_in,
    names_key,
    photo_key,
    share_in,
)
from consumer.tags import Tags, parse_time

T = TypeVar("T")
Reading = Generator[Sequence[Command], list[Any], T]
#: Is told in a sentence of a key that another program wrote, or damaged.
Unreadable = Callable[[str], None]

#: Photos in one round trip.
CHUNK: Final = 500
#: How many candidates one page looks at, where hardly any of them fits.
_MOST_LOOKED_AT: Final = 5_000
#: Entries of one index in the first question. Each of 64 has a share of the best photos, some a larger one.
_LEAST_OF_A_KEY: Final = 4
_MORE: Final = 4
_FIELDS: Final = ("qc", "brands", "t", "del", "qg")


def get_many(photo_ids: Iterable[str], unreadable: Unreadable) -> Reading[dict[str, Tags]]:
    """As `TagReader.get_many`."""
    wanted = [photo_id for photo_id in dict.fromkeys(photo_ids) if is_text(photo_id)]
    found: dict[str, Tags] = {}
    for start in range(0, len(wanted), CHUNK):
        chunk = wanted[start : start + CHUNK]
        hashes = yield [("HGETALL", photo_key(photo_id)) for photo_id in chunk]
        for photo_id, fields in zip(chunk, hashes, strict=True):
            tags = _tags(photo_id, fields, unreadable)
            if tags is not None:
                found[photo_id] = tags
    return found


def brands(unreadable: Unreadable) -> Reading[dict[str, int]]:
    """As `TagReader.brands`."""
    keys = list(map(names_key, bucket_names()))
    noted = set[str]()
    for key, names in zip(keys, (yield [("SMEMBERS", key) for key in keys]), strict=True):
        if is_wrong_type(names):
            unreadable(f"key {key} is not a set")
        else:
            noted.update(filter(is_text, names))
    counts = Counter[str]()
    asked = [(name, index_prefix(each) + name) for name in sorted(noted) for each in bucket_names()]
    for start in range(0, len(asked), CHUNK):
        chunk = asked[start : start + CHUNK]
        for (name, key), count in zip(chunk, (yield [("ZCARD", key) for _, key in chunk]), strict=True):
            if is_wrong_type(count):
                unreadable(f"key {key} is not a sorted set")
            else:
                counts[name] += count
    return {name: count for name, count in sorted(counts.items(), key=lambda each: (-each[1], each[0])) if count}


def find(query: Query, unreadable: Unreadable) -> Reading[Page]:
    """As `TagReader.find`."""
    page, place, looked_at, more = Page(), query.after, 0, True
    shown = set[str]()
    while len(page) < query.limit and more and looked_at < _MOST_LOOKED_AT:
        # The index says nothing of times: of those tagged since one, there may be few among many.
        wanted = CHUNK if query.since else min(CHUNK, query.limit - len(page))
        candidates, more = yield from _best(query, place, wanted, unreadable)
        looked_at += len(candidates)
        for candidate, found in zip(candidates, (yield from _looked_up(query, candidates)), strict=True):
            if len(page) == query.limit:
                more = True
                break
            place = candidate
            if found is not None and found.photo_id not in shown:
                shown.add(found.photo_id)
                page.append(found)
    page.cursor = cursor_of(place) if more and place is not None else None
    return page


def _best(query: Query, place: Place | None, wanted: int, unreadable: Unreadable) -> Reading[tuple[list[Place], bool]]:
    """The best so many entries of all indexes together behind a place, and whether there are more.

    An entry counts as one of the best only if no index can have a better one that was not asked for.
    """
    high: str | float = query.high if place is None else place[0]
    entries: dict[str, list[Place]] = {}
    asked, count = list(query.keys), max(_LEAST_OF_A_KEY, -(-2 * wanted // max(1, len(query.keys))))
    ends: dict[str, Place] = {}
    behind, best = set[Place](), list[Place]()
    while asked:
        commands: list[Command] = [
            ("ZREVRANGEBYSCORE", key, high, query.low, "WITHSCORES", "LIMIT", 0, count) for key in asked
        ]
        for key, reply in zip(asked, (yield commands), strict=True):
            ends.pop(key, None)
            entries[key] = _entries(key, reply, unreadable)
            if len(entries[key]) == count:
                ends[key] = entries[key][-1]
        behind = {
            entry
            for found in entries.values()
            for entry in found
            if (place is None or entry < place) and is_text(entry[1])
        }
        best = nlargest(wanted, behind)
        # Another index may have better ones than the last of these, or there are not enough of them.
        asked = [key for key, end in ends.items() if len(best) < wanted or end > best[-1]]
        count *= _MORE
    return best, bool(ends) or len(behind) > len(best)


def _entries(key: str, reply: Any, unreadable: Unreadable) -> list[Place]:  # noqa: ANN401 - what Redis replies
    if is_wrong_type(reply):
        unreadable(f"key {key} is not a sorted set")
        return []
    return [(float(score), photo_id) for photo_id, score in _pairs(reply)]


def _looked_up(query: Query, candidates: Sequence[Place]) -> Reading[list[Found | None]]:
    """The photos of entries, None where one does not have (any more) what is looked for."""
    commands: list[Command] = [("HMGET", photo_key(photo_id), *_FIELDS) for _, photo_id in candidates]
    replies = (yield commands) if commands else []
    return [_fitting(query, entry, reply) for entry, reply in zip(candidates, replies, strict=True)]


def _fitting(query: Query, entry: Place, reply: Sequence[str | None] | Exception) -> Found | None:
    if isinstance(reply, Exception):
        return None
    (quality, photo_id), (level, brands_text, tagged_at, deleted, good) = entry, reply
    if None in {level, brands_text, tagged_at} or deleted == "1":
        return None
    try:
        names = tuple(names_in(str(brands_text)))
        found = Found(photo_id, share_in(quality), level_in(str(level)), names, parse_time(str(tagged_at)))
    except ValueError:
        return None
    listed = query.brands.intersection(names) if query.brands else good == "1"
    fits = listed and query.level in {None, found.level} and (query.since is None or found.tagged_at >= query.since)
    return found if fits else None


def _tags(photo_id: str, fields: Mapping[str, str] | Exception, unreadable: Unreadable) -> Tags | None:
    if isinstance(fields, Exception):
        unreadable(f"key {photo_key(photo_id)} is not a hash")
        return None
    try:
        decision = decision_of(photo_id, fields)
    except ValueError as error:
        unreadable(str(error))
        return None
    return decision if isinstance(decision, Tags) else None


def _pairs(page: list[Any]) -> Iterator[tuple[str, Any]]:
    """Members and scores; RESP3 sends them in pairs, RESP2 (`?protocol=2` in the URL) one after the other."""
    return iter(page) if page and isinstance(page[0], list) else zip(page[::2], page[1::2], strict=True)
