"""The keys and fields of tags in Redis, which readers in any language may rely on. Pure.

`p:{bb}:<photo_id>` is a hash; `b:{bb}:<brand>` and `q:{bb}` are sorted sets of photo ids by quality, of the photos that
show a brand and of the good ones; `n:{bb}` is a set of the names of brands. `bb` is CRC-32 of the photo id modulo 64 in
two digits. The braces are Redis Cluster's hash tag: a photo and its index entries share a slot, so that one script
changes both.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Final, TypeVar

from consumer.tags import (
    Brand,
    Deletion,
    Quality,
    Tags,
    format_source,
    format_time,
    is_version,
    parse_source,
    parse_time,
)

T = TypeVar("T")

BUCKETS: Final = 64
_LEVELS: Final = ("1", "2", "3", "4", "5")
#: JSON without spaces, with sorted keys: the same tags are stored as the same bytes.
_compact: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode


def bucket(photo_id: str) -> str:
    """The bucket of a photo, "00" to "63"."""
    return f"{zlib.crc32(photo_id.encode()) % BUCKETS:02d}"


def photo_key(photo_id: str) -> str:
    """The hash of one photo."""
    return f"p:{{{bucket(photo_id)}}}:{photo_id}"


def index_prefix(bucket_name: str) -> str:
    """The prefix of the brand indexes of one bucket; the brand follows."""
    return f"b:{{{bucket_name}}}:"


def quality_key(bucket_name: str) -> str:
    """The sorted set of the good photos of one bucket.

    Of the good ones alone: an entry takes half as much memory as a photo's hash, and nobody looks for the others.
    """
    return f"q:{{{bucket_name}}}"


def names_key(bucket_name: str) -> str:
    """The set of the brands that photos of one bucket show, or once showed."""
    return f"n:{{{bucket_name}}}"


def brand_keys(brand: str) -> list[str]:
    """The sorted sets that together hold every photo of a brand."""
    return [index_prefix(each) + brand for each in bucket_names()]


def bucket_names() -> list[str]:
    """All buckets."""
    return [f"{number:02d}" for number in range(BUCKETS)]


def keys_of(decision: Tags | Deletion) -> list[str]:
    """The keys that the writing script is called with; what else the photo is in, only that knows, and asks for it.

    As few as can be: while a slot moves in a cluster, what has one key alone does not wait.
    """
    name = bucket(decision.photo_id)
    prefix = index_prefix(name)
    brands = decision.brands if isinstance(decision, Tags) else ()
    names = [names_key(name)] if brands else []
    good = [quality_key(name)] if isinstance(decision, Tags) and decision.quality.good else []
    return [photo_key(decision.photo_id), *good, *(prefix + each.brand for each in brands), *names]


def fields_of(decision: Tags | Deletion) -> dict[str, str]:
    """The hash fields of a photo.

    `ver` version, `q` score, `qc` level, `qg` good, `brands` and `bs` names and probabilities as JSON lists, `m` model
    versions as JSON, `t` time, `src` topic/partition/offset. After a deletion, a tombstone: `del` marks it, and `ver`
    keeps older uploads from being written. Tags have their time in whole seconds: with milliseconds, the hash of most
    photos would take the next of the allocator's sizes, 32 bytes more.
    """
    if isinstance(decision, Deletion):
        content, moment = {"del": "1"}, format_time(decision.deleted_at)
    else:
        moment = format_time(decision.tagged_at, "seconds")
        content = {
            "q": repr(decision.quality.score),
            "qc": str(decision.quality.level),
            "qg": "1" if decision.quality.good else "0",
            "brands": _compact([brand.brand for brand in decision.brands]),
            "bs": _compact([brand.probability for brand in decision.brands]),
            "m": _compact(decision.models),
        }
    return {"ver": decision.version, **content, "t": moment, "src": format_source(decision.source)}


def decision_of(photo_id: str, fields: Mapping[str, str]) -> Tags | Deletion | None:
    """What a photo's hash holds: tags, or a deletion; None where there is no hash.

    The `probabilities` of tags are those of their brands: Redis keeps no others.

    Raises:
        ValueError: a field is missing or malformed: something else writes to these keys. The message names the key.
    """
    if not fields:
        return None
    try:
        return _decision(photo_id, fields)
    except KeyError as missing:
        raise ValueError(f"hash {photo_key(photo_id)} has no field {missing}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"hash {photo_key(photo_id)}: {error}") from None


def names_in(brands: str) -> list[str]:
    """The brands in the field `brands`.

    Raises:
        ValueError: it is malformed.
    """
    try:
        names = json.loads(brands)
    except RecursionError:
        names = None
    return [_text(name) for name in _a(list, names)]


def level_in(text: str) -> int:
    """The level in the field `qc`.

    Raises:
        ValueError: it is none.
    """
    return _LEVELS.index(text) + 1


def share_in(value: str | float) -> float:
    """A score or a probability.

    Raises:
        ValueError: it is outside 0..1.
    """
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{number:g} is outside 0..1")
    return number


def _decision(photo_id: str, fields: Mapping[str, str]) -> Tags | Deletion:
    version, source, moment = fields["ver"], parse_source(fields["src"]), parse_time(fields["t"])
    _text(source.topic)
    if not is_version(version):
        raise ValueError(f"version {version!r} cannot be compared")
    if fields.get("del") == "1":
        return Deletion(photo_id, version, source, moment)
    named = zip(names_in(fields["brands"]), _a(list, json.loads(fields["bs"])), strict=True)
    brands = tuple(Brand(name, share_in(value)) for name, value in named)
    return Tags(
        photo_id=photo_id,
        quality=Quality(share_in(fields["q"]), level_in(fields["qc"]), fields["qg"] == "1"),
        brands=brands,
        probabilities={each.brand: each.probability for each in brands},
        models={_text(name): _text(number) for name, number in _a(dict, json.loads(fields["m"])).items()},
        version=version,
        source=source,
        tagged_at=moment,
    )


def _a(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"{value!r:.40} is not a {kind.__name__}")  # noqa: TRY004 - as of every malformed field
    return value


def _text(value: object) -> str:
    """The value, if it is a text that UTF-8 can hold.

    Raises:
        ValueError: it is anything else.
    """
    text = _a(str, value)
    text.encode()
    return text
