import pytest

from consumer.kafka.topic_review import Problem, problems_of
from consumer.topic_names import TopicNames

NAMES = TopicNames("uploads", "tags", "dead", "retry")
WEEK_MS = str(7 * 24 * 3600 * 1000)
#: As Kafka describes topics that `photo-tagger topics` created.
SOUND = {
    "uploads": {"cleanup.policy": "delete", "retention.ms": WEEK_MS, "max.message.bytes": "1048588"},
    "tags": {
        "cleanup.policy": "compact",
        "retention.ms": WEEK_MS,
        "retention.bytes": "-1",
        "max.message.bytes": "1048588",
    },
    "dead": {"cleanup.policy": "delete", "retention.ms": WEEK_MS, "max.message.bytes": "1048588"},
    "retry": {"cleanup.policy": "delete", "retention.ms": WEEK_MS, "max.message.bytes": "1048588"},
}


def problems(topic: str, **changes: str) -> list[Problem]:
    """The problems where one topic has other settings; their names have `_` for `.`."""
    changed = {name.replace("_", "."): value for name, value in changes.items()}
    return problems_of(NAMES, {**SOUND, topic: SOUND[topic] | changed})


def test_topics_as_they_are_created_have_no_problem() -> None:
    assert problems_of(NAMES, SOUND) == []


@pytest.mark.parametrize(
    ("topic", "changes", "mended"),
    [
        ("tags", {"cleanup_policy": "delete"}, "cleanup.policy=compact"),
        ("tags", {"cleanup_policy": "compact,delete"}, "cleanup.policy=compact"),
        ("tags", {"cleanup_policy": "delete,compact"}, "cleanup.policy=compact"),
        ("tags", {"cleanup_policy": "delete", "retention_ms": "-1"}, "cleanup.policy=compact"),
        (
            "tags",
            {"cleanup_policy": "compact,delete", "retention_ms": "-1", "retention_bytes": "9"},
            "cleanup.policy=compact",
        ),
        ("tags", {"cleanup_policy": ""}, "cleanup.policy=compact"),
        ("tags", {"max_message_bytes": "8000"}, "max.message.bytes=1048588"),
        ("dead", {"cleanup_policy": "compact"}, "cleanup.policy=delete"),
        ("dead", {"cleanup_policy": "compact,delete"}, "cleanup.policy=delete"),
        ("dead", {"retention_ms": "3600000"}, "retention.ms=7776000000"),
        ("dead", {"max_message_bytes": "1048587"}, "max.message.bytes=1048588"),
        ("retry", {"cleanup_policy": "compact"}, "cleanup.policy=delete"),
        ("retry", {"retention_ms": "0"}, "retention.ms=7776000000"),
        ("retry", {"max_message_bytes": "1"}, "max.message.bytes=1048588"),
    ],
)
def test_a_setting_that_loses_records_is_named_with_what_mends_it(
    topic: str, changes: dict[str, str], mended: str
) -> None:
    (problem,) = problems(topic, **changes)
    assert (problem.topic, problem.setting, problem.value) == (topic, problem.setting, next(iter(changes.values())))
    assert problem.mend == f"--alter --entity-type topics --entity-name {topic} --add-config {mended}"
    assert problem.detail


@pytest.mark.parametrize(
    ("topic", "changes"),
    [
        ("tags", {"cleanup_policy": "compact,delete", "retention_ms": "-1"}),
        ("tags", {"retention_ms": "1"}),
        ("dead", {"retention_ms": "-1"}),
        ("dead", {"max_message_bytes": "2097152"}),
        ("uploads", {"cleanup_policy": "compact"}),
        ("uploads", {"retention_ms": "1"}),
    ],
)
def test_a_setting_that_loses_no_record_of_ours_is_not_named(topic: str, changes: dict[str, str]) -> None:
    assert problems(topic, **changes) == []


def test_a_larger_limit_of_the_uploads_concerns_every_output() -> None:
    found = problems("uploads", max_message_bytes="9999999")
    assert [(problem.topic, problem.setting) for problem in found] == [
        (name, "max.message.bytes") for name in ("tags", "retry", "dead")
    ]


def test_what_brokers_do_not_tell_is_no_problem() -> None:
    assert problems_of(NAMES, {}) == problems_of(NAMES, {name: {} for name in SOUND}) == []
