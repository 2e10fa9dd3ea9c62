"""Finds settings of the topics under which records vanish or are refused, and says how to mend each."""

from collections.abc import Iterator, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]  # its types leave it out

from consumer.errors import DependencyDown
from consumer.kafka import clients
from consumer.kafka.reasons import REASONS
from consumer.kafka.topics import KEPT_MS, RELEASES
from consumer.topic_names import TopicNames

#: The settings of a topic, by name.
Configuration = Mapping[str, str]

_TIMEOUT_S: Final = 3.0
_DAY_MS: Final = 24 * 3600 * 1000
_RETENTION: Final = ("retention.ms", "retention.bytes")
_LIMIT: Final = "max.message.bytes"


@dataclass(frozen=True, slots=True)
class Problem:
    """A setting of a topic that loses records, what it does, and the value that mends it."""

    topic: str
    setting: str
    value: str
    detail: str
    mended: str

    @property
    def mend(self) -> str:
        """The arguments of Kafka's own command `kafka-configs.sh` that mend it."""
        return f"--alter --entity-type topics --entity-name {self.topic} --add-config {self.setting}={self.mended}"


def review_topics(bootstrap_servers: str, names: TopicNames, extra: clients.Properties) -> list[Problem]:
    """The problems of an installation's topics; one that is missing or may not be read has none. Blocking, for 3 s.

    Raises:
        DependencyDown: the settings of none can be read: no answer, or no permission for it.
    """
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names.required]
    found: dict[str, Configuration] = {}
    refusal: KafkaError | None = None
    admin = clients.admin_client(bootstrap_servers, extra)
    for resource, answer in admin.describe_configs(resources, request_timeout=_TIMEOUT_S).items():
        try:
            entries = answer.result(timeout=_TIMEOUT_S)
        except KafkaException as error:
            refusal = error.args[0]
        except FutureTimeout:
            pass
        else:
            found[resource.name] = {name: str(entry.value) for name, entry in entries.items()}
    if not found:
        admin.poll(0)  # hands over the reasons
        silence = str(REASONS) or f"{bootstrap_servers} did not answer in {_TIMEOUT_S:.0f} s"
        raise DependencyDown("kafka", silence if refusal is None else clients.explain(refusal))
    return problems_of(names, found)


def problems_of(names: TopicNames, found: Mapping[str, Configuration]) -> list[Problem]:
    """The problems of topics with these settings, by topic. Pure; a setting that is not known is no problem."""
    uploads = found.get(names.uploads, {})
    tags, retry, dead = (found.get(name, {}) for name in (names.tags, names.retry, names.dead))
    return [
        *_of_releases(names.releases, found.get(names.releases, {})),
        *_of_results(names.tags, tags),
        *_of_waiting(names.retry, retry, "records that wait for their next attempt"),
        *_of_waiting(names.dead, dead, "dead letters"),
        *_of_limits(uploads, {names.tags: tags, names.retry: retry, names.dead: dead}),
    ]


def _of_results(topic: str, settings: Configuration) -> Iterator[Problem]:
    policy = settings.get("cleanup.policy", "compact")
    limits = [f"{name}={settings[name]}" for name in _RETENTION if settings.get(name, "-1") != "-1"]
    if "delete" in policy and limits:
        lost = f"results vanish ({', '.join(limits)}), and Redis cannot be rebuilt from those that are left"
        yield Problem(topic, "cleanup.policy", policy, lost, "compact")
    elif "compact" not in policy:
        grows = "no older result of a photo is ever dropped, so that the topic grows without end"
        yield Problem(topic, "cleanup.policy", policy, grows, "compact")


def _of_releases(topic: str, settings: Configuration) -> Iterator[Problem]:
    lost = "releases vanish, and with them what is in force and what to go back to"
    for name, wanted in RELEASES.items():
        if (value := settings.get(name, wanted)) != wanted:
            yield Problem(topic, name, value, lost, wanted)


def _of_waiting(topic: str, settings: Configuration, what: str) -> Iterator[Problem]:
    policy, retention_ms = settings.get("cleanup.policy", "delete"), int(settings.get("retention.ms", "-1"))
    if "compact" in policy:
        yield Problem(topic, "cleanup.policy", policy, f"of the {what}, only the last of each key is kept", "delete")
    if "delete" in policy and 0 <= retention_ms < _DAY_MS:
        short = f"{what} vanish within a day, perhaps before they are read"
        yield Problem(topic, "retention.ms", str(retention_ms), short, str(KEPT_MS))


def _of_limits(uploads: Configuration, outputs: Mapping[str, Configuration]) -> Iterator[Problem]:
    # Such dead letters lose their value, and such photos cannot wait for another attempt.
    largest = int(uploads.get(_LIMIT, "0"))
    for topic, settings in outputs.items():
        limit = settings.get(_LIMIT, str(largest))
        if int(limit) < largest:
            refused = f"records are refused that the upload topic takes (up to {largest} bytes)"
            yield Problem(topic, _LIMIT, limit, refused, str(largest))
