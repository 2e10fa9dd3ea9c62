"""The cluster: its version, the topics, what this user may do, the clock."""

from collections.abc import Mapping
from time import time
from typing import Final

from consumer.doctor.findings import Finding, Findings, Until, clock, failure, ok, warning
from consumer.kafka.inspection import protocol
from consumer.kafka.inspection.cluster import Cluster, Topic
from consumer.kafka.topic_review import problems_of
from consumer.service.streams import retry_group
from consumer.settings import Settings

#: What the service does with each of its topics.
_RUN: Final[Mapping[str, frozenset[str]]] = {
    "uploads": frozenset({"READ"}),
    "retry": frozenset({"READ", "WRITE"}),
    "tags": frozenset({"READ", "WRITE"}),
    "dead": frozenset({"WRITE"}),
    "releases": frozenset({"READ", "WRITE"}),
    "runs": frozenset(),
}
#: What commands do beside that, which need not be this user's.
_COMMANDS: Final[Mapping[str, Mapping[str, str]]] = {
    "uploads": {"WRITE": "send, dlq retry"},
    "dead": {"READ": "dlq, status"},
    "runs": {"READ": "runs, replay", "WRITE": "runs, replay"},
}
#: Of a record whose writer has a clock of its own.
_CLOCK_S: Final = 2.0
_RIGHTS: Final = "let this user do it: docs/how-to/secure.md lists the permissions"
_ALIVE: Final = "is it running, and is it the one in kafka.bootstrap_servers? `photo-tagger config` shows from where"


def examine(settings: Settings, until: Until) -> Findings:
    """Asks the cluster; blocking.

    Yields:
        The findings, as they come.

    Raises:
        DependencyDown: it does not answer, or no more.
    """
    kafka = settings.kafka
    cluster = Cluster(kafka.bootstrap_servers, kafka.extra, until.deadline_s)
    yield ok("kafka", "answer", f"{kafka.bootstrap_servers}: {cluster.brokers} brokers")
    yield from _version(settings, cluster)
    names = {kind: getattr(kafka.topics, kind) for kind in _RUN}
    found = cluster.topics(names.values())
    settings_of = cluster.configurations(name for name, topic in found.items() if topic is not None)
    for kind, name in names.items():
        topic = found[name]
        if topic is None:
            yield _missing(kind, name)
            continue
        yield from _copies(name, topic, settings_of.get(name, {}), cluster.brokers)
        yield from _rights(kind, name, topic)
    yield from _reviewed(settings, found, settings_of)
    yield from _partitions(settings, found)
    yield from _groups(settings, cluster)
    yield from _times(settings, cluster, found)


def advice(detail: str) -> str:
    """What to do where it does not answer, unless its words say that already."""
    return _RIGHTS if "docs/how-to/secure.md" in detail else _ALIVE


def _version(settings: Settings, cluster: Cluster) -> Findings:
    takes = cluster.takes
    known = protocol.release_of(takes)
    if not known:
        yield warning("kafka", "version", "the brokers do not say which requests they take", "look at their version")
        return
    detail = f"speaks Kafka {known}"
    lacks = protocol.lacks(takes, consumer_protocol=settings.kafka.group_protocol == "consumer")
    misses = protocol.misses(takes)
    if lacks:
        yield failure("kafka", "version", f"{detail}: too old for {', '.join(lacks)}", "use a newer cluster")
    elif misses:
        yield warning("kafka", "version", f"{detail}: too old for {', '.join(misses)}", "use a newer cluster")
    else:
        yield ok("kafka", "version", detail)


def _missing(kind: str, name: str) -> Finding:
    make = "create it: `photo-tagger topics`; or let this user see it"
    # Only runs are begun with it.
    found = warning if kind == "runs" else failure
    return found("kafka", f"topic {name}", "it is not there, or this user may not see it", make)


def _copies(name: str, topic: Topic, settings: Mapping[str, str], brokers: int) -> Findings:
    """Whether a topic survives a broker, and takes records now.

    Yields:
        The findings.
    """
    about = f"topic {name}"
    least = int(settings.get("min.insync.replicas", "1"))
    shown = f"{topic.partitions} partitions, {topic.copies} copies, {topic.in_sync} in sync, {least} needed"
    if topic.leaderless:
        advice = "start the brokers that have its copies"
        yield failure("kafka", about, f"{topic.leaderless} of {topic.partitions} partitions have no leader", advice)
    elif topic.copies < least:
        advice = f"no record is ever taken: lower min.insync.replicas to {topic.copies}, or add copies"
        yield failure("kafka", about, shown, advice)
    elif topic.in_sync < least:
        yield failure("kafka", about, shown, "no record is taken now: start the brokers that are away")
    elif topic.copies < brokers and topic.copies == 1:
        yield warning("kafka", about, shown, "it is lost with one disk: add copies (kafka-reassign-partitions.sh)")
    elif topic.copies == least > 1:
        advice = "nothing is taken while one broker is away: add a copy, or lower min.insync.replicas"
        yield warning("kafka", about, shown, advice)
    else:
        yield ok("kafka", about, shown)


def _rights(kind: str, name: str, topic: Topic) -> Findings:
    """What the broker says that this user may do: it is asked, and nothing is written.

    Yields:
        The findings.
    """
    about = f"rights to {name}"
    if lacking := sorted(_RUN[kind] - topic.allowed):
        yield failure("kafka", about, f"this user may not {' and '.join(lacking)}: the service cannot run", _RIGHTS)
        return
    refused = [f"{right} ({what})" for right, what in _COMMANDS.get(kind, {}).items() if right not in topic.allowed]
    if refused:
        yield warning("kafka", about, f"this user may not {', '.join(refused)}: these commands need another", _RIGHTS)
    else:
        yield ok("kafka", about, f"this user may {', '.join(sorted(topic.allowed & {'READ', 'WRITE'})) or 'see it'}")


def _reviewed(
    settings: Settings, found: Mapping[str, Topic | None], settings_of: Mapping[str, Mapping[str, str]]
) -> Findings:
    """Whether topics keep what they must, and take what others give them.

    Yields:
        The findings.
    """
    names = settings.kafka.topics
    unread = [name for name, topic in found.items() if topic is not None and name not in settings_of]
    if unread:
        detail = f"this user may not read those of {', '.join(unread)}"
        yield warning("kafka", "settings of topics", detail, "let it DescribeConfigs of them: docs/how-to/secure.md")
    problems = problems_of(names, settings_of)
    for each in problems:
        about = f"settings of {each.topic}"
        mend = f"kafka-configs.sh --bootstrap-server {settings.kafka.bootstrap_servers} {each.mend}"
        yield failure("kafka", about, f"{each.setting}={each.value}: {each.detail}", mend)
    if settings_of and not problems:
        yield ok("kafka", "settings of topics", "they keep what they must, and take what is read")


def _partitions(settings: Settings, found: Mapping[str, Topic | None]) -> Findings:
    names, workers = settings.kafka.topics, settings.service.workers
    uploads, releases = found[names.uploads], found[names.releases]
    if uploads is not None and uploads.partitions < workers:
        detail = (
            f"{workers} workers, {uploads.partitions} partitions: {workers - uploads.partitions} have nothing to do"
        )
        alter = f"kafka-topics.sh --alter --topic {names.uploads} --partitions {workers}"
        yield warning("kafka", "workers", detail, f"{alter}, or fewer service.workers")
    elif uploads is not None:
        yield ok("kafka", "workers", f"{workers} of this process, {uploads.partitions} partitions")
    if releases is not None and releases.partitions != 1:
        detail = f"{releases.partitions} partitions: only the first is read, and a number is a place in it"
        yield failure("kafka", f"partitions of {names.releases}", detail, "make the topic anew, with one partition")


def _groups(settings: Settings, cluster: Cluster) -> Findings:
    group = settings.kafka.group_id
    for name, found in cluster.groups([group, retry_group(group)]).items():
        about = f"rights to group {name}"
        if found is None or (found.allowed is not None and "READ" not in found.allowed):
            yield failure("kafka", about, "this user may not READ: the service cannot run", _RIGHTS)
        elif found.allowed is None:
            yield ok("kafka", about, "not used yet; this user may see it")
        else:
            yield ok("kafka", about, "this user may READ")


def _times(settings: Settings, cluster: Cluster, found: Mapping[str, Topic | None]) -> Findings:
    """Whether records come from the future. Brokers tell no time of their own.

    Yields:
        The findings.
    """
    names = settings.kafka.topics
    read = {name: topic.partitions for name in (names.uploads, names.tags) if (topic := found[name]) is not None}
    newest = cluster.newest_ms(read)
    for name, at_ms in newest.items():
        ahead_s = at_ms / 1000 - time()
        if ahead_s > _CLOCK_S:
            yield clock("kafka", f"the newest record of {name}", ahead_s, _CLOCK_S)
    if newest and all(at_ms / 1000 - time() <= _CLOCK_S for at_ms in newest.values()):
        yield ok("kafka", "clock", "no record comes from the future")
