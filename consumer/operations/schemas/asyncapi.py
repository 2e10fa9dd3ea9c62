"""The AsyncAPI 3 document of all topics: their records, keys, headers and settings, and who sends and receives them."""

from importlib.metadata import version
from typing import Any, Final

from consumer import events, releases
from consumer.kafka import headers, topics
from consumer.operations.schemas import examples, kinds
from consumer.runs import answers, definition
from consumer.topic_names import TopicNames

FILE: Final = "asyncapi.json"

_KINDS: Final = (
    *(events.UPLOADED, events.DELETED, events.TAGGED, releases.RELEASE),
    *(definition.RUN, answers.ANSWER),
)
_TEXT: Final = {"type": "string"}
_PHOTO_ID: Final = {"type": "string", "description": "The photo id, in UTF-8."}
_AS_RECEIVED: Final = {"description": "As received, byte for byte."}
_MEANINGS: Final = {
    "reason": "Why: a reason of docs/reference/dead-letters.md.",
    "detail": "What happened, for a person.",
    "attempt": "Attempts so far, of all rounds.",
    "round": "How often it was sent to this topic.",
    "not_before": "When it is tried again.",
    "original_topic": "The topic of the first record.",
    "original_partition": "Its partition.",
    "original_offset": "Its offset.",
    "failed_at": "When it became a dead letter.",
    headers.VALUE_SHA256: "Where the value did not fit into the topic: its digest.",
    headers.VALUE_OMITTED: "Where the value did not fit into the topic: its size.",
    events.VERSION_HEADER: "The version of the deletion.",
    events.DELETED_AT_HEADER: "When the photo was deleted.",
    events.SOURCE_HEADER: "The record of the deletion: topic/partition/offset.",
    "ce_specversion": "1.0.",
    "ce_id": "The origin, topic/partition/offset: a result that is published again has the same one.",
    "ce_type": "The kind of the event.",
    "ce_source": "Who wrote it.",
    "ce_subject": "The photo id.",
    "ce_time": "When it was written.",
    "content-type": "application/json.",
    "traceparent": "The sender's W3C trace context.",
    "tracestate": "The sender's W3C trace context.",
}
_TRACE: Final = ("traceparent", "tracestate")
_CLOUD_EVENT: Final = ("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "content-type")


def document() -> dict[str, Any]:
    """The document, with the default names of the topics."""
    names = TopicNames()
    return {
        "asyncapi": "3.0.0",
        "id": f"{kinds.BASE}{FILE}",
        "info": {
            "title": "photo-tagger",
            "version": version("photo-tagger"),
            "description": "Tags photos with quality and brands. Names of topics are settings; these are defaults.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": _channels(names),
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": kinds.components(_KINDS)},
    }


def _channels(names: TopicNames) -> dict[str, Any]:
    kept = {"retention.ms": topics.KEPT_MS}
    return {
        "uploads": _channel(names.uploads, "Events of the upload pipeline.", ("uploaded", "deleted"), {}),
        "tags": _channel(
            names.tags,
            "The tags of every photo: the change feed. The last record of a key is in force.",
            ("tagged", "removed"),
            topics.RESULTS,
        ),
        "retry": _channel(names.retry, "Events that wait for their next attempts.", ("retried",), kept),
        "dead": _channel(
            names.dead, "Events that were refused or failed for good.", ("deadLetter",), kept, partitions=1
        ),
        "releases": _channel(
            names.releases,
            "Which models and thresholds judge. The number of a release is its offset plus 1.",
            ("release",),
            topics.RELEASES,
            partitions=1,
        ),
        "runs": _channel(names.runs, "The runs, by their names.", ("run",), topics.COMPACTED, partitions=1),
        "answers": {
            **_channel(
                names.answers("{run}"), "What a run's candidate says of each photo.", ("answer",), topics.COMPACTED
            ),
            "parameters": {"run": {"description": "The name of the run."}},
        },
    }


def _channel(
    address: str,
    description: str,
    messages: tuple[str, ...],
    settings: dict[str, Any],
    *,
    partitions: int | None = None,
) -> dict[str, Any]:
    configuration = {name: _setting(name, value) for name, value in settings.items()}
    binding: dict[str, Any] = {"bindingVersion": "0.5.0"}
    if partitions:
        binding["partitions"] = partitions
    if configuration:
        binding["topicConfiguration"] = configuration
    return {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": binding},
    }


def _setting(name: str, value: str | int) -> object:
    return [value] if name == "cleanup.policy" else int(value)


def _operations() -> dict[str, Any]:
    """What the service does: what it receives, others send."""
    return {
        name: {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}
        for name, action, channel, summary in (
            ("readUploads", "receive", "uploads", "The upload pipeline sends; the service tags or deletes the photo."),
            ("publishTags", "send", "tags", "Readers follow the tags of all photos."),
            ("deferUpload", "send", "retry", "A photo whose attempts had transient failures waits here."),
            ("readRetries", "receive", "retry", "The service tries again when the time has come."),
            ("buryUpload", "send", "dead", "Operators look into what failed, and send it again."),
            ("writeRelease", "send", "releases", "An operator promotes models."),
            ("followReleases", "receive", "releases", "Every process follows what is in force."),
            ("writeRun", "send", "runs", "An operator starts a run."),
            ("followRuns", "receive", "runs", "Workers of a run follow its state."),
            ("writeAnswer", "send", "answers", "A run judges a photo."),
            ("readAnswers", "receive", "answers", "A run is compared, promoted or rolled back."),
        )
    }


def _messages() -> dict[str, Any]:
    sent = ("ce_type", "content-type", *_TRACE)
    run_id = {"type": "string", "description": "The name of the run."}
    removed = (*_CLOUD_EVENT, events.VERSION_HEADER, events.DELETED_AT_HEADER, events.SOURCE_HEADER)
    return {
        "uploaded": _message(events.UPLOADED, _PHOTO_ID, optional=sent),
        "deleted": _message(events.DELETED, _PHOTO_ID, needed=("ce_type",), optional=sent),
        "tagged": _message(events.TAGGED, _PHOTO_ID, needed=_CLOUD_EVENT, optional=_TRACE),
        "removed": {
            "name": "removed",
            "summary": "A photo was deleted: no value, after which compaction drops the records of the photo.",
            "headers": _headers(removed, _TRACE),
            "payload": {"type": "null"},
            "bindings": _key(_PHOTO_ID),
        },
        "retried": _kept("An event that waits. The sender's headers come first.", headers.RETRY_HEADERS),
        "deadLetter": _kept(
            "An event that failed. The sender's headers come first.",
            headers.DEAD_HEADERS,
            (headers.VALUE_SHA256, headers.VALUE_OMITTED),
        ),
        "release": _message(releases.RELEASE, None),
        "run": _message(definition.RUN, run_id),
        "answer": _message(answers.ANSWER, _PHOTO_ID, needed=("content-type",)),
    }


def _message(
    kind: str, key: dict[str, Any] | None, *, needed: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    return {
        "name": kind,
        "contentType": "application/json",
        "headers": _headers(needed, optional, kind),
        "payload": {"$ref": f"#/components/schemas/{kinds.name_of(kind)}"},
        "examples": [{"payload": example} for example in examples.of(kind)],
        **({} if key is None else {"bindings": _key(key)}),
    }


def _kept(summary: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "summary": summary,
        "headers": _headers(needed, optional),
        "payload": _AS_RECEIVED,
        "bindings": _key(_AS_RECEIVED),
    }


def _headers(needed: tuple[str, ...], optional: tuple[str, ...], kind: str = "") -> dict[str, Any]:
    names = dict.fromkeys((*needed, *optional))
    properties = {name: {**_TEXT, "description": _MEANINGS[name]} for name in names}
    if kind and "ce_type" in properties:
        properties["ce_type"]["const"] = kind
    return {"type": "object", "properties": properties, **({"required": list(needed)} if needed else {})}


def _key(schema: dict[str, Any]) -> dict[str, Any]:
    return {"kafka": {"key": schema, "bindingVersion": "0.5.0"}}
