from typing import get_args

from consumer.operations import reference
from consumer.telemetry import LogEvent, Metrics


def test_every_log_event_has_a_meaning() -> None:
    assert set(reference.EVENTS) == set(get_args(LogEvent))


def test_every_metric_is_on_the_page_with_its_labels() -> None:
    page = reference.page()
    for family in Metrics().registry.collect():
        assert f"| `{family.name}" in page
    assert "| `tagger_tags_total` | counter | label, release | " in page
    assert "| `tagger_workers` | gauge |" in page
