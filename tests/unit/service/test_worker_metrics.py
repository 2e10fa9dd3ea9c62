from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from consumer.service.worker_metrics import merge
from consumer.telemetry import Metrics, SupervisorMetrics


def page(tagged: int) -> str:
    metrics = Metrics()
    metrics.records.labels("tagged").inc(tagged)
    metrics.lag.labels('odd "name"\\', "3").set(tagged)
    with metrics.stage("fetch"):
        pass
    return generate_latest(metrics.registry).decode()


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    named = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}
    assert len(named) == len(found), "a series occurs twice"
    return named


def test_every_sample_of_every_worker_is_kept_under_its_own_label() -> None:
    pages = {number: page(number + 1) for number in (0, 1, 2)}
    merged = samples(merge(pages, CollectorRegistry()).decode())
    expected = {
        (name, labels | {("worker", str(number))}): value
        for number, text in pages.items()
        for (name, labels), value in samples(text).items()
    }
    assert merged == expected


def test_a_metric_is_described_once_whatever_the_number_of_workers() -> None:
    text = merge({0: page(1), 1: page(2)}, CollectorRegistry()).decode()
    described = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(described) == len(set(described))
    assert "# TYPE tagger_stage_duration_seconds histogram" in described


def test_the_supervisor_adds_its_own() -> None:
    own = SupervisorMetrics()
    own.restarts.inc()
    merged = samples(merge({}, own.registry).decode())
    assert merged["tagger_worker_restarts_total", frozenset()] == 1
