"""The records of the result topic as changes of tags, and the positions between them. Standard library only, pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from consumer.tags import Brand, Quality, Source, Tags, is_version, parse_time, unframed

T = TypeVar("T")

_VERSION: Final = "version"
_DELETED_AT: Final = "deleted_at"
#: The last second of the calendar: a producer may stamp a record with any number.
_LAST_MS: Final = 253_402_300_799_000


class WatchError(Exception):
    """Kafka does not answer at the start, has no such topic, or refuses to be read."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """A photo has no tags any more. `version` is that of the deletion, None where another program wrote it."""

    photo_id: str
    version: str | None
    deleted_at: datetime


@dataclass(frozen=True, slots=True)
class Restarted:
    """What follows is the topic from its beginning, every photo in it once more: forget what came before.

    Photos that were deleted meanwhile do not come. `reason` says why the position cannot be continued.
    """

    reason: str


#: Tags that are in force now, a deletion, or a new beginning.
Change = Tags | Deleted | Restarted


def change_of(
    key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]], written_ms: int
) -> Tags | Deleted:
    """What a record of the result topic says. Its deletion has no value; a bare null of another program is one too.

    Raises:
        ValueError: it says nothing that can be read; the message has the reason.
    """
    photo_id = (key or b"").decode()
    if not photo_id:
        raise ValueError("the record has no key")
    if value is None:
        return _deleted(photo_id, {name: each or b"" for name, each in headers}, written_ms)
    try:
        tags = _tags(json.loads(unframed(value)))
    except KeyError as missing:
        raise ValueError(f"no field {missing}") from None
    except (TypeError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None
    if tags.photo_id != photo_id:
        raise ValueError(f"key {photo_id!r} is not the photo id {tags.photo_id!r}")
    return tags


def _deleted(photo_id: str, headers: Mapping[str, bytes], written_ms: int) -> Deleted:
    version = headers.get(_VERSION, b"").decode(errors="replace")
    try:
        deleted_at = parse_time(headers.get(_DELETED_AT, b"").decode())
    except ValueError:
        deleted_at = datetime.fromtimestamp(min(max(written_ms, 0), _LAST_MS) / 1000, UTC)
    return Deleted(photo_id, version if is_version(version) else None, deleted_at)


def _tags(payload: Any) -> Tags:  # noqa: ANN401 - JSON
    fields: dict[str, Any] = _a(dict, payload)
    quality, source = _a(dict, fields["quality"]), _a(dict, fields["source"])
    version = _a(str, fields["version"])
    if not is_version(version):
        raise ValueError(f"version {version!r} cannot be compared")
    return Tags(
        photo_id=_a(str, fields["photo_id"]),
        quality=Quality(_share(quality["score"]), _level(quality["level"]), _a(bool, quality["good"])),
        brands=tuple(Brand(_a(str, each["brand"]), _share(each["probability"])) for each in _a(list, fields["brands"])),
        probabilities={_a(str, name): _share(each) for name, each in _a(dict, fields["probabilities"]).items()},
        models={_a(str, name): _a(str, each) for name, each in _a(dict, fields["models"]).items()},
        version=version,
        source=Source(_a(str, source["topic"]), _a(int, source["partition"]), _a(int, source["offset"])),
        tagged_at=parse_time(_a(str, fields["tagged_at"])),
    )


def _a(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.40} is not a {kind.__name__}")
    return value


def _share(value: object) -> float:
    number = float(value) if isinstance(value, int | float) else -1.0
    if not 0 <= number <= 1:
        raise ValueError(f"{value!r:.40} is not a number from 0 to 1")
    return number


def _level(value: object) -> int:
    if value not in range(1, 6):
        raise ValueError(f"level {value!r:.40} is not 1 to 5")
    return _a(int, value)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a topic was read: the next offset of each partition, and which topic of that name it was."""

    topic_id: str
    offsets: Mapping[int, int]

    def __str__(self) -> str:
        offsets = {str(partition): offset for partition, offset in sorted(self.offsets.items())}
        return json.dumps({"topic_id": self.topic_id, "offsets": offsets})

    @classmethod
    def of(cls, text: str) -> "Position":
        """The position that a text names.

        Raises:
            ValueError: it is none.
        """
        try:
            fields = _a(dict, json.loads(text))
            offsets = {int(each): _a(int, offset) for each, offset in _a(dict, fields["offsets"]).items()}
            topic_id = _a(str, fields["topic_id"])
        except (KeyError, TypeError, ValueError, RecursionError):
            offsets, topic_id = {0: -1}, ""
        if min(offsets.values(), default=0) < 0:
            raise ValueError(f"{text!r:.60} is no position of watch")
        return cls(topic_id, offsets)
