"""What the value of a record holds: the JSON of an event, bare, behind a schema id of Confluent's, or in a CloudEvent.

Pure. What is none of these is refused in words that name what was found.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from consumer.errors import PhotoRejected
from consumer.tags import unframed

T = TypeVar("T")

#: What stands for half of a character that JSON spells in two escapes.
_REPLACEMENT: Final = "\ufffd"
#: Most characters of foreign text in an explanation.
MAX_QUOTED: Final = 100

_UTF_8_MARK: Final = b"\xef\xbb\xbf"
#: UTF-32 before UTF-16, whose little-endian mark begins like it.
_OTHER_MARKS: Final = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
#: Which of four neighbouring bytes are zero in a text of few characters beyond ASCII.
_OTHER_ZEROS: Final[Mapping[tuple[bool, ...], str]] = {
    (False, True, True, True): "UTF-32",
    (True, True, True, False): "UTF-32",
    (False, True, False, True): "UTF-16",
    (True, False, True, False): "UTF-16",
}
#: The magic byte of Confluent's wire format, and the number of its schema.
_SCHEMA_ID_BYTES: Final = 5
_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x82SNAPPY\0": "snappy",
    b"\xff\x06\0\0sNaPpY": "snappy",
    b"\x78\x01": "zlib",
    b"\x78\x5e": "zlib",
    b"\x78\x9c": "zlib",
    b"\x78\xda": "zlib",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"PK\x03\x04": "zip",
}
_BEGINNINGS: Final = {
    b"<": "XML or HTML",
    b"[": "a list; send each event in a record of its own",
    b'"': "a text, perhaps an event that was written as JSON twice",
    b"eyJ": "Base64",
    b"Obj\x01": "an Avro file",
    b"\xac\xed\0\x05": "a Java object",
    b"\x03\0": "the wire format of the AWS Glue registry",
    b"\x03\x05": "the wire format of the AWS Glue registry",
}
_PHOTO: Final = re.compile(rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF.{4}WEBP|.{4}ftyp", re.DOTALL)
#: What to do with an object of these fields.
_ENVELOPES: Final = {
    frozenset({"specversion", "type"}): "a CloudEvent in structured mode has the header content-type: "
    "application/cloudevents+json",
    frozenset({"schema", "payload"}): "an envelope of Kafka Connect: set value.converter.schemas.enable=false",
}
#: An escape of JSON: that of a whole character beyond 16 bits, of half of one, or any other.
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)
#: The names of W3C trace context, which are passed on with the result.
TRACE: Final = ("traceparent", "tracestate")
_STRUCTURED: Final = "application/cloudevents"
_JSON_TYPE: Final = re.compile(r"(application|text)/json|[^/]+/[^/]+\+json")


@dataclass(frozen=True, slots=True)
class _CloudEvent:
    """A CloudEvent in structured mode, as far as it is read."""

    specversion: str
    type: str
    datacontenttype: str | None = None
    data: Any = None
    data_base64: str | None = None


_CLOUD_EVENT: Final = TypeAdapter(_CloudEvent)


def event_of(value: bytes, kind: str, content_type: str) -> tuple[str, bytes]:
    """The type of an event and its JSON: `kind`, unless the content type says that the value is a CloudEvent.

    Raises:
        PhotoRejected: `invalid_event`, the CloudEvent is a batch, of another format or version, or has no JSON data.
    """
    media = _media(content_type)
    if not media.startswith(_STRUCTURED):
        return kind, _json_of(value)
    if media.startswith(f"{_STRUCTURED}-batch"):
        _refuse("a batch of CloudEvents; send each event in a record of its own")
    if media not in {_STRUCTURED, f"{_STRUCTURED}+json"}:
        _refuse(f"a CloudEvent of the format {media[:MAX_QUOTED]!r}, expected {_STRUCTURED}+json")
    event = validated(_CLOUD_EVENT, _json_of(value))
    if event.specversion != "1.0":
        _refuse(f"a CloudEvent of version {event.specversion[:MAX_QUOTED]!r}, expected 1.0", "specversion")
    described = _media(event.datacontenttype or "application/json")
    if not _JSON_TYPE.fullmatch(described):
        _refuse(f"{described[:MAX_QUOTED]!r}, expected application/json", "datacontenttype")
    return event.type, _data_of(event)


def trace_of(value: bytes, content_type: str) -> dict[str, str]:
    """The W3C trace context that a CloudEvent in structured mode has among its attributes; else nothing."""
    if not _media(content_type).startswith(_STRUCTURED):
        return {}
    try:
        fields = from_json(_json_of(value))
    except ValueError:  # half of a character
        return {}
    return {name: fields[name] for name in TRACE if isinstance(fields.get(name), str)}


def validated(adapter: TypeAdapter[T], value: bytes) -> T:
    """What a JSON text says; half of a character, as where a text was cut between two escapes, becomes U+FFFD.

    That would be another photo or another place, so there it is refused.

    Raises:
        PhotoRejected: `invalid_event`, naming the field that is missing or ill-typed, or what the value is instead.
    """
    try:
        return adapter.validate_json(value)
    except ValidationError as error:
        whole, otherwise = (_with_whole_characters(value, instead) for instead in (_REPLACEMENT, "?"))
        if whole != value:
            return _named_by_none(validated(adapter, whole), validated(adapter, otherwise))
        first = error.errors(include_url=False, include_input=False)[0]
        what = (
            f"{explain(error)}{_instead(value) if first['type'] == 'missing' else ''}"
            if first["loc"]
            else f"field value: {_found_in(value) or first['msg']}"
        )
        raise PhotoRejected("invalid_event", what) from None


def _with_whole_characters(value: bytes, instead: str) -> bytes:
    return _ESCAPE.sub(lambda found: instead.encode() if found["half"] else found[0], value)


def _named_by_none(said: T, otherwise: T) -> T:
    """What a text says, if the same photo at the same place is named whatever stands for half of a character.

    Raises:
        PhotoRejected: `invalid_event`.
    """
    for name in ("photo_id", "uri"):
        if _field(said, name) != _field(otherwise, name):
            _refuse("it has half of a character, a lone surrogate", name)
    return said


def _field(said: object, name: str) -> object:
    data = said.data if isinstance(said, _CloudEvent) else said
    return data.get(name) if isinstance(data, dict) else getattr(data, name, None)


def explain(error: ValidationError) -> str:
    """The first fault, with the name of its field, and how many there are."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:MAX_QUOTED] or "value"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"field {where}: {first['msg'].removeprefix('Value error, ')}{more}"


def _refuse(detail: str, name: str = "value") -> NoReturn:
    """Refuses a field, or the value as a whole.

    Raises:
        PhotoRejected: `invalid_event`.
    """
    raise PhotoRejected("invalid_event", f"field {name}: {detail}")


def _media(content_type: str) -> str:
    """A content type without its parameters; Spring writes it as JSON, in quotes."""
    return content_type.strip('" ').partition(";")[0].strip().lower()


def _json_of(value: bytes) -> bytes:
    """The value without a byte order mark, or without what the serializer of a schema registry writes before it."""
    return unframed(value).removeprefix(_UTF_8_MARK)


def _data_of(event: _CloudEvent) -> bytes:
    if event.data_base64 is None:
        if event.data is None:
            _refuse("the event is missing", "data")
        return to_json(event.data, inf_nan_mode="constants")
    if event.data is not None:
        _refuse("there is data too", "data_base64")
    try:
        return _json_of(base64.b64decode(event.data_base64, validate=True))
    except ValueError:
        _refuse("it is no Base64", "data_base64")


def _instead(value: bytes) -> str:
    """What an object without a required field has instead, and what to do about it where that can be said."""
    fields = from_json(value)
    for names, what in _ENVELOPES.items():
        if names <= fields.keys():
            return f"; {what}"
    for name, inner in fields.items():
        if "photo_id" not in fields and isinstance(inner, dict | str) and "photo_id" in inner:
            return f"; the event seems to be in its field {name[:MAX_QUOTED]!r}: send that alone"
    return f"; its fields are {', '.join(map(repr, fields)) or 'none'}"[:MAX_QUOTED]


def _found_in(value: bytes) -> str:
    """What a value is that is not the JSON of an object; empty where that cannot be said."""
    looks = (_blank, _encoding, _compression, _photo, _schema, _beginning, _bytes)
    return next((found for look in looks if (found := look(value))), "")


def _blank(value: bytes) -> str:
    return "" if value.strip() else "it is empty"


def _encoding(value: bytes) -> str:
    """The Unicode encoding that a JSON text has instead of UTF-8, by its mark or by its zeros."""
    for mark, name in _OTHER_MARKS.items():
        if value.startswith(mark):
            return f"its byte order mark is that of {name}, not UTF-8"
    # The places that a single character of one byte lacks are no zeros.
    other = _OTHER_ZEROS.get(tuple(place < len(value) and not any(value[place:16:4]) for place in range(4)))
    return f"it is {other}, not UTF-8" if other else ""


def _compression(value: bytes) -> str:
    name = next((name for magic, name in _COMPRESSED.items() if value.startswith(magic)), None)
    return f"it is compressed with {name}; leave that to Kafka and its compression.type" if name else ""


def _photo(value: bytes) -> str:
    return "it is a photo; send an event with its URI" if _PHOTO.match(value) else ""


def _schema(value: bytes) -> str:
    if not value.startswith(b"\0") or len(value) <= _SCHEMA_ID_BYTES:
        return ""
    number = int.from_bytes(value[1:_SCHEMA_ID_BYTES])
    return f"it has Confluent's wire format with schema {number}, and no JSON behind it: Avro or Protobuf?"


def _beginning(value: bytes) -> str:
    name = next((name for sign, name in _BEGINNINGS.items() if value.lstrip().startswith(sign)), None)
    return f"it is {name}" if name else ""


def _bytes(value: bytes) -> str:
    like_json = value.lstrip().startswith(b"{")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        if like_json:
            return f"it is not UTF-8 at byte {error.start}"
        text = "\0"
    if like_json or all(character.isprintable() or character.isspace() for character in text[:MAX_QUOTED]):
        return ""
    return f"it is no JSON, but bytes that begin with {value[:8].hex(' ')}: Avro, Protobuf or another format?"
