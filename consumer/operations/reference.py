"""The page of all metrics and log events, generated from the registries."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry

from consumer.telemetry import LogEvent, Metrics, SupervisorMetrics

PAGE: Final = "metrics-and-logs.md"

#: What happened, and what to do about it where that is not plain.
EVENTS: Final[Mapping[LogEvent, str]] = {
    "assignment.received": "Kafka gave this member partitions, from the positions that are named",
    "assignment.revoked": "Kafka took partitions away, or this member leaves",
    "breaker.closed": "dead letters are few again: all records are taken",
    "breaker.opened": "too many dead letters in a minute: the intake pauses; see which reason grows",
    "breaker.probed": "a few records were let through the open breaker",
    "collector.lost": "the collector of traces does not take them; photos do not wait for it",
    "collector.recovered": "the collector of traces takes them again",
    "commit.refused": "Kafka refused a commit, which is made again; after a crash those records would be read again",
    "dead_letter.published": "a photo was rejected for good, with the reason; `photo-tagger dlq show`",
    "decode.hung": "a decode runs on long after its limit: the process ends to be replaced",
    "dependency.lost": "Kafka, Redis, Triton or a photo host does not answer; repeated every ten seconds",
    "dependency.recovered": "it answers again",
    "event.disordered": "nothing keeps the events of a photo in order: no key, or another partition than before",
    "host.lost": "a photo host is down: its photos wait, others go on",
    "host.ran_out": "this machine had no memory, thread or file descriptor left for a photo: it is tried again",
    "host.recovered": "a photo host answers again",
    "kafka.errored": "the client reports an error; it ends the service where it is for good",
    "letters.sent_again": "a person sent dead letters again from the web page: how many of those that were chosen",
    "offsets.reset": "a committed position is gone from the topic; records may be lost, as counted",
    "page.failed": "a bug, with its traceback: one web page could not be shown",
    "pages.served": "`photo-tagger web` serves its pages at the address that is named",
    "photo.deferred": "a photo waits in the retry topic until the time that is named",
    "photo.deleted": "a deletion was applied",
    "photo.failed": "a bug, with its traceback: the photo becomes a dead letter `internal`",
    "photo.not_judged": "a run could not judge a photo, with the reason: it has an answer, or its dead letter already",
    "photo.retried": "an attempt failed and is repeated in place",
    "photo.tagged": "a photo has its tags, or had them",
    "producer.rebuilt": "the Kafka producer ended with a fatal error and was replaced",
    "rebuild.finished": "Redis was restored from the result topic",
    "rebuild.record_incomplete": "a deletion in the result topic lacks what Redis keeps of it",
    "rebuild.record_skipped": "a record of the result topic is none of ours",
    "rebuild.started": "Redis is being restored",
    "record.skipped": "a record has no event of ours or no value: it is counted and passed",
    "record.stuck": "no dead-letter topic takes the record: it is tried for ever; mend the topic",
    "record.waiting": "a record has had no outcome for long; what it waits for is named",
    "release.awaited": "Triton does not serve a new release yet; photos are judged under the one before",
    "release.enforced": "photos are judged under this release from now on",
    "release.unreadable": "a record of the topic of releases is none",
    "replay.finished": "a replay ended, with its outcomes",
    "replay.started": "a replay began or goes on",
    "result.overtaken": "newer tags came while a result was published: they are published again",
    "retries.moved": "records of the retry topic moved to its end, so that what stands behind them is reached",
    "service.drain_timed_out": "records in flight had no outcome in time: they are read again",
    "service.drained": "all threads have ended",
    "service.started": "the service reads records",
    "service.stopped": "the process is about to end",
    "service.stopping": "a stop was asked for: records in flight are finished",
    "topic.misconfigured": "a topic loses records by its settings; the command that mends it is named",
    "tracing.started": "photos are traced; the collector is named",
    "tracing.unavailable": "a variable asks for traces, and the extra for them is not installed",
    "topics.unread": "the settings of the topics could not be read",
    "worker.ended": "a worker ended",
    "worker.hung": "a worker does not answer its probe and is killed",
    "worker.killed": "a worker did not end in time and was killed",
    "worker.restarted": "a worker is started again after it ended",
    "worker.started": "a worker was started",
    "workers.started": "the supervisor started its workers",
    "workers.stopped": "all workers have ended",
    "workers.stopping": "the supervisor asks its workers to stop",
}


def page() -> str:
    """The page, as Markdown."""
    lines = [
        "# Metrics and log events",
        "",
        "Generated by `make schemas` from the code. The service serves `/metrics` for Prometheus; with several workers",
        "each sample has the label `worker`. Its log is JSON lines: `event` is one of those below, other fields say",
        "where and why.",
        "",
        "## Metrics",
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
        *_metrics(Metrics().registry),
        "",
        "## Metrics of the supervisor",
        "",
        "Of several workers (`service.workers` above 1), beside those of each.",
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
        *_metrics(SupervisorMetrics().registry),
        "",
        "## Log events",
        "",
        "| event | meaning |",
        "|---|---|",
        *(f"| `{event}` | {meaning} |" for event, meaning in sorted(EVENTS.items())),
    ]
    return "\n".join(lines) + "\n"


def _metrics(registry: CollectorRegistry) -> Iterator[str]:
    """The rows of a registry.

    Yields:
        Each, in the order of the names.
    """
    labels = {
        name: tuple(getattr(collector, "_labelnames", ()))
        # prometheus_client tells the labels of samples alone, and of some metrics there is none yet.
        for collector, names in registry._collector_to_names.items()  # noqa: SLF001 - as above
        for name in names
    }
    for family in sorted(registry.collect(), key=lambda family: family.name):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        name = f"{name}_info" if family.type == "info" else name
        named = ", ".join(labels.get(family.name) or labels.get(name) or ())
        yield f"| `{name}` | {family.type} | {named} | {family.documentation} |"
