"""The AsyncAPI document is one, and says what the code sends.

`asyncapi-3.0.0.json.gz` is `schemas/3.0.0-without-$id.json` of the npm package @asyncapi/specs 6.11.1 (Apache-2.0).
"""

import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from consumer.events import Deletion, Source
from consumer.kafka import headers
from consumer.kafka.publisher import result_record
from consumer.operations.schemas import asyncapi
from consumer.topic_names import TopicNames
from tests.fakes import MOMENT, tags

OFFICIAL = json.loads(gzip.decompress(Path(__file__).with_name("asyncapi-3.0.0.json.gz").read_bytes()))
DOCUMENT = asyncapi.document()


def follows(document: dict[str, Any]) -> bool:
    return jsonschema.Draft7Validator(OFFICIAL).is_valid(document)


def test_it_follows_the_official_schema_which_sees_a_fault() -> None:
    assert follows(DOCUMENT)
    assert not follows({**DOCUMENT, "channels": {"uploads": {"adress": "photo-uploads"}}})
    assert not follows({**DOCUMENT, "asyncapi": "2.6.0"})


def test_every_reference_leads_somewhere() -> None:
    def references(part: object) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [found for inner in part.values() for found in references(inner)]
        return [found for inner in part for found in references(inner)] if isinstance(part, list) else []

    for reference in references(DOCUMENT):
        found: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_every_topic_is_a_channel_and_is_used() -> None:
    names = TopicNames()
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    assert {*names.required, names.runs, names.answers("{run}")} == addresses
    used = {operation["channel"]["$ref"] for operation in DOCUMENT["operations"].values()}
    assert used == {f"#/channels/{name}" for name in DOCUMENT["channels"]}
    tagged = DOCUMENT["channels"]["tags"]["bindings"]["kafka"]["topicConfiguration"]
    assert tagged == {"cleanup.policy": ["compact"], "delete.retention.ms": 30 * 86_400_000}


@pytest.mark.parametrize(
    ("message", "decision"),
    [("tagged", tags()), ("removed", Deletion("p", "0000000000001.999999.9999999999999", Source("t", 0, 1), MOMENT))],
)
def test_a_result_has_the_headers_that_are_documented(message: str, decision: Any) -> None:
    sent = {name: value.decode() for name, value in result_record("t", decision).headers if value is not None}
    documented = DOCUMENT["components"]["messages"][message]["headers"]
    jsonschema.Draft7Validator(documented).validate(sent)
    assert sorted(sent) == sorted(documented["required"])


def test_what_waits_or_failed_has_the_headers_that_are_documented() -> None:
    messages = DOCUMENT["components"]["messages"]
    assert tuple(messages["retried"]["headers"]["required"]) == headers.RETRY_HEADERS
    assert tuple(messages["deadLetter"]["headers"]["required"]) == headers.DEAD_HEADERS
