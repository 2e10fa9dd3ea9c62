"""Answers: what a run's candidate says of each photo beside the tags in force, and their JSON form. Pure.

A run's topic holds the newest answer for each photo. Any program may write to a topic, so what is decoded is checked.
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final

import orjson
from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from consumer import payloads
from consumer.events import MAX_REVISION, Moment
from consumer.tags import Source, Tags

#: What `__post_init__` holds, for the schema.
_EITHER: Final[list[JsonValue]] = [
    {"properties": {"after": {"type": "object"}, "reason": {"type": "null"}}},
    {"properties": {"after": {"type": "null"}, "reason": {"type": "string"}}},
]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a candidate says of one photo: tags in `after`, or the `reason` why it could not judge it.

    Raises:
        ValueError: it has both `after` and `reason`, or neither.
    """

    __pydantic_config__: ClassVar = ConfigDict(strict=True, json_schema_extra={"oneOf": _EITHER})

    #: The key of the upload's record; only that of an unreadable record may be no photo id.
    photo_id: str
    #: The URI of the upload; null where that cannot be read.
    uri: str | None
    #: When it was uploaded; null where the upload cannot be read.
    uploaded_at: Moment | None
    #: Of the content that was judged: the first part of the versions of its tags.
    content_rev: Annotated[int, Field(ge=0, le=MAX_REVISION)]
    #: The upload's record.
    source: Source
    #: The tags that were in force when the photo was judged; null if there were none.
    before: Tags | None
    #: The candidate's tags; null where it could not judge the photo. The release in their version is 000000.
    after: Tags | None
    #: Why it could not judge the photo, as of a dead letter; null where it could.
    reason: str | None
    #: What happened, for a person; empty where there is no reason.
    detail: str
    #: Of the file, by its first bytes: `jpeg`, `png`; null if it was not fetched.
    format: str | None
    #: Milliseconds from the start of the fetch to the scores.
    took_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    def __post_init__(self) -> None:
        if (self.after is None) == (self.reason is None):
            raise ValueError("it must have either after or reason")


#: Its JSON Schema is published under this name.
ANSWER: Final = "run.answer"
ANSWER_ADAPTER: Final = TypeAdapter(Answer)


def encode(answer: Answer) -> bytes:
    """The JSON form: UTF-8, absent values as null, times as RFC 3339.

    A key or a file name that is not UTF-8 is quoted with escapes.
    """
    quotable = replace(answer, photo_id=_in_utf_8(answer.photo_id), detail=_in_utf_8(answer.detail))
    return orjson.dumps(quotable, option=orjson.OPT_UTC_Z)


def decode(value: bytes) -> Answer:
    """The answer in a record of a run's topic.

    Raises:
        ValueError: the value is not an answer; the message names the field.
    """
    try:
        answer = ANSWER_ADAPTER.validate_json(value)
    except ValidationError as error:
        raise ValueError(payloads.explain(error)) from None
    for name, tags in (("before", answer.before), ("after", answer.after)):
        if tags is not None and tags.photo_id != answer.photo_id:
            raise ValueError(f"field {name}.photo_id: it is of another photo")
    return answer


def _in_utf_8(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
