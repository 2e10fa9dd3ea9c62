"""Where and how tags stand in Redis: the keys and fields that readers in any language may rely on. Pure.

`p:{bb}:<photo_id>` is a hash, `b:{bb}:<brand>` a sorted set of photo ids by quality; `bb` is CRC-32 of the photo id
modulo 64 in two digits. The braces are Redis Cluster's hash tag: a photo and its index entries share a slot, so that
one script changes both.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from consumer.tags import Brand, Deletion, Quality, Tags, format_source, format_time, parse_source

BUCKETS: Final = 64


def bucket(photo_id: str) -> str:
    """The bucket of a photo, "00" to "63"."""
    return f"{zlib.crc32(photo_id.encode()) % BUCKETS:02d}"


def photo_key(photo_id: str) -> str:
    """The hash of one photo."""
    return f"p:{{{bucket(photo_id)}}}:{photo_id}"


def index_prefix(bucket_name: str) -> str:
    """What the brand indexes of one bucket start with; the brand follows."""
    return f"b:{{{bucket_name}}}:"


def brand_keys(brand: str) -> list[str]:
    """The sorted sets that together hold every photo of a brand."""
    return [index_prefix(f"{number:02d}") + brand for number in range(BUCKETS)]


def fields_of(tags: Tags) -> dict[str, str]:
    """The hash fields of a photo's tags.

    `ver` version, `q` score, `qc` level, `qg` good, `brands` and `bs` names and probabilities as JSON lists,
    `m` model versions as JSON, `t` time, `src` topic/partition/offset.
    """
    return {
        "ver": tags.version,
        "q": repr(tags.quality.score),
        "qc": str(tags.quality.level),
        "qg": "1" if tags.quality.good else "0",
        "brands": _compact([brand.brand for brand in tags.brands]),
        "bs": _compact([brand.probability for brand in tags.brands]),
        "m": _compact(tags.models),
        "t": format_time(tags.tagged_at),
        "src": format_source(tags.source),
    }


def tombstone_of(deletion: Deletion) -> dict[str, str]:
    """The hash fields that stay of a deleted photo: `del` marks it, `ver` keeps older uploads away."""
    return {
        "ver": deletion.version,
        "del": "1",
        "t": format_time(deletion.deleted_at),
        "src": format_source(deletion.source),
    }


def deletion_of(photo_id: str, fields: Mapping[str, str]) -> Deletion | None:
    """The deletion in a photo's hash; None where there is no hash or one with tags.

    Raises:
        ValueError: as `tags_of`.
    """
    if fields.get("del") != "1":
        return None
    with _named(photo_id):
        source, deleted_at = parse_source(fields["src"]), datetime.fromisoformat(fields["t"])
        return Deletion(photo_id, fields["ver"], source, deleted_at)


def tags_of(photo_id: str, fields: Mapping[str, str]) -> Tags | None:
    """The tags in a photo's hash, without `probabilities`; None where there is no hash or a tombstone.

    Raises:
        ValueError: a field is missing or malformed: something else writes to these keys.
    """
    if not fields or fields.get("del") == "1":
        return None
    with _named(photo_id):
        names, probabilities = json.loads(fields["brands"]), json.loads(fields["bs"])
        return Tags(
            photo_id=photo_id,
            quality=Quality(float(fields["q"]), int(fields["qc"]), fields["qg"] == "1"),
            brands=tuple(Brand(name, float(value)) for name, value in zip(names, probabilities, strict=True)),
            probabilities={},
            models=json.loads(fields["m"]),
            version=fields["ver"],
            source=parse_source(fields["src"]),
            tagged_at=datetime.fromisoformat(fields["t"]),
        )


def _compact(value: object) -> str:
    """JSON without spaces, with sorted keys: the same tags are stored as the same bytes."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)


@contextmanager
def _named(photo_id: str) -> Iterator[None]:
    """Says which hash it is that cannot be read.

    Raises:
        ValueError: a field is missing or malformed.
    """
    try:
        yield
    except KeyError as missing:
        raise ValueError(f"hash {photo_key(photo_id)} has no field {missing}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"hash {photo_key(photo_id)}: {error}") from None
