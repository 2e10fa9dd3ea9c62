"""Answers: what a run's candidate says of each photo beside the tags in force, and their JSON form. Pure.

A run's topic holds the newest answer for each photo. Any program may write to a topic, so what is decoded is checked.
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from consumer import payloads
from consumer.events import MAX_REVISION, Moment
from consumer.tags import Source, Tags, is_version

_LEVELS: Final = range(1, 6)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a candidate says of one photo: tags in `after`, or the `reason` why it could not judge it.

    Raises:
        ValueError: it has both `after` and `reason`, or neither.
    """

    __pydantic_config__: ClassVar = ConfigDict(strict=True)

    #: The key of the upload's record; only that of an unreadable record may be no photo id.
    photo_id: str
    #: None where the upload cannot be read, as `uploaded_at`.
    uri: str | None
    uploaded_at: Moment | None
    #: Of the content that was judged: the first part of the versions of its tags.
    content_rev: Annotated[int, Field(ge=0, le=MAX_REVISION)]
    #: The upload's record.
    source: Source
    #: The tags that were in force when the photo was judged; None if there were none.
    before: Tags | None
    #: The release in the version is 000000 until the run is promoted.
    after: Tags | None
    #: As of a dead letter: one of `errors.Reason`, or of a newer service's.
    reason: str | None
    #: What happened, for a person; empty where there is no reason.
    detail: str
    #: Of the file, by its first bytes: `jpeg`, `png`; None if it was not fetched.
    format: str | None
    #: From the start of the fetch to the scores.
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
        if tags is not None and (fault := _fault(answer.photo_id, tags)):
            raise ValueError(f"field {name}.{fault}")
    return answer


def _fault(photo_id: str, tags: Tags) -> str:
    """What no service decides, with the name of its field; empty if there is nothing."""
    probabilities = (*tags.probabilities.values(), *(brand.probability for brand in tags.brands))
    checks = (
        (tags.photo_id == photo_id, "photo_id: it is of another photo"),
        (0 <= tags.quality.score <= 1, "quality.score: it is not between 0 and 1"),
        (tags.quality.level in _LEVELS, "quality.level: it is not between 1 and 5"),
        (all(0 <= probability <= 1 for probability in probabilities), "brands: a probability is not between 0 and 1"),
        (is_version(tags.version), "version: it is not of the form content.release.run, all digits"),
        (tags.tagged_at.utcoffset() is not None, "tagged_at: it has no time zone"),
    )
    return next((fault for holds, fault in checks if not holds), "")


def _in_utf_8(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
