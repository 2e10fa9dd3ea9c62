"""The keys and fields of tags in Redis, which readers in any language may rely on. Pure.

`p:{bb}:<photo_id>` is a hash, `b:{bb}:<brand>` a sorted set of photo ids by quality; `bb` is CRC-32 of the photo id
modulo 64 in two digits. The braces are Redis Cluster's hash tag: a photo and its index entries share a slot, so that
one script changes both.
"""

import json
import zlib
from collections.abc import Mapping
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
    """The prefix of the brand indexes of one bucket; the brand follows."""
    return f"b:{{{bucket_name}}}:"


def brand_keys(brand: str) -> list[str]:
    """The sorted sets that together hold every photo of a brand."""
    return [index_prefix(f"{number:02d}") + brand for number in range(BUCKETS)]


def fields_of(decision: Tags | Deletion) -> dict[str, str]:
    """The hash fields of a photo.

    `ver` version, `q` score, `qc` level, `qg` good, `brands` and `bs` names and probabilities as JSON lists, `m` model
    versions as JSON, `t` time, `src` topic/partition/offset. After a deletion, a tombstone: `del` marks it, and `ver`
    keeps older uploads from being written.
    """
    if isinstance(decision, Deletion):
        content, moment = {"del": "1"}, decision.deleted_at
    else:
        moment = decision.tagged_at
        content = {
            "q": repr(decision.quality.score),
            "qc": str(decision.quality.level),
            "qg": "1" if decision.quality.good else "0",
            "brands": _compact([brand.brand for brand in decision.brands]),
            "bs": _compact([brand.probability for brand in decision.brands]),
            "m": _compact(decision.models),
        }
    return {"ver": decision.version, **content, "t": format_time(moment), "src": format_source(decision.source)}


def decision_of(photo_id: str, fields: Mapping[str, str]) -> Tags | Deletion | None:
    """What a photo's hash holds: tags, without `probabilities`, or a deletion; None where there is no hash.

    Raises:
        ValueError: a field is missing or malformed: something else writes to these keys.
    """
    if not fields:
        return None
    try:
        version, source, moment = fields["ver"], parse_source(fields["src"]), datetime.fromisoformat(fields["t"])
        if fields.get("del") == "1":
            return Deletion(photo_id, version, source, moment)
        names, probabilities = json.loads(fields["brands"]), json.loads(fields["bs"])
        return Tags(
            photo_id=photo_id,
            quality=Quality(float(fields["q"]), int(fields["qc"]), fields["qg"] == "1"),
            brands=tuple(Brand(name, float(value)) for name, value in zip(names, probabilities, strict=True)),
            probabilities={},
            models=json.loads(fields["m"]),
            version=version,
            source=source,
            tagged_at=moment,
        )
    except KeyError as missing:
        raise ValueError(f"hash {photo_key(photo_id)} has no field {missing}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"hash {photo_key(photo_id)}: {error}") from None


def _compact(value: object) -> str:
    """JSON without spaces, with sorted keys: the same tags are stored as the same bytes."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
