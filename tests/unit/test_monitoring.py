"""Dashboards and alert rules: they are complete, lead to the runbook, and name series that there are.

tests/integration/test_monitoring.py holds the same queries against what running servers show.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from consumer.settings import Settings
from consumer.telemetry import Metrics, SupervisorMetrics
from tests.promql import (
    DASHBOARDS,
    ROOT,
    Query,
    Series,
    alert_queries,
    dashboard_queries,
    exposed,
    faults,
    jobs,
    rules,
    selectors,
)

#: What the parts show that do not run here; each file says where it is from.
ELSEWHERE = ROOT / "tests/series"
RUNBOOK = ROOT / "docs/how-to/runbook.md"
QUERIES = dashboard_queries() + alert_queries()


def of_exporters() -> Series:
    known = jobs()
    for path in ELSEWHERE.glob("*.prom"):
        known |= exposed(path.read_text(encoding="utf-8"))
    return known


def of_the_registry() -> Series:
    """Every series of the tagger's code, also of what has not happened yet."""
    known = Series()
    for registry in (Metrics().registry, SupervisorMetrics().registry):
        known |= exposed(generate_latest(registry).decode())
        for name, collector in registry._names_to_collectors.items():
            known.labels.setdefault(name, set()).update(getattr(collector, "_labelnames", ()))
    return known


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_a_query_is_promql(query: Query) -> None:
    assert query.parsed is not None


def of(*prefixes: str) -> list[Query]:
    return [query for query in QUERIES if all((one.name or "").startswith(prefixes) for one in selectors(query.parsed))]


def test_queries_of_the_exporters_name_series_that_these_show() -> None:
    known = of_exporters()
    asked = of("redis_", "kafka_", "nv_gpu_", "up", "ALERTS")
    assert len(asked) > 40
    assert [fault for query in asked for fault in faults(query, known)] == []


def test_queries_of_the_tagger_name_series_of_its_registry() -> None:
    known = of_the_registry()
    asked = of("tagger_", "process_")
    assert len(asked) > 40
    # `worker` and topics' names are those of a running service.
    assert [fault for query in asked for fault in faults(query, known) if "topic is" not in fault] == []


def test_every_metric_of_the_tagger_is_on_the_dashboard_or_is_known_not_to_be() -> None:
    asked = {selector.name for query in QUERIES for selector in selectors(query.parsed)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked if name}
    described = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/reference/metrics-and-logs.md").read_text(), re.MULTILINE)
    left_out = {"process_virtual_memory_bytes", "tagger_oldest_unfinished_offset"}
    described = {name + "_info" if name == "tagger_build" else name for name in described if "_" in name}
    assert described - families == left_out


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("sum(tagger_record_total)", "no series tagger_record_total"),
        ("sum by (outcom) (tagger_records_total)", "tagger_records_total has no label outcom"),
        ('tagger_records_total{outcome="taged"}', "tagger_records_total: no outcome is taged"),
        ('tagger_records_total{outcome!~"tagged|skiped"}', "tagger_records_total: no outcome is skiped"),
        ('tagger_records_total{outcom="tagged"}', "tagger_records_total has no label outcom"),
        ("rate(tagger_stage_duration_seconds_buckets[5m])", "no series tagger_stage_duration_seconds_buckets"),
        ('up{job="tager"}', "up: no job is tager"),
        ("kafka_consumergroup_lag_seconds", "no series kafka_consumergroup_lag_seconds"),
    ],
)
def test_a_query_that_names_what_is_not_there_is_found(text: str, fault: str) -> None:
    assert faults(Query("here", text), of_the_registry() | of_exporters()) == [f"here: {fault}"]


def test_a_legend_that_shows_a_label_that_is_gone_is_found() -> None:
    query = Query("here", "sum by (le) (tagger_stage_duration_seconds_bucket)", frozenset({"reason"}))
    assert faults(query, of_the_registry()) == ["here: tagger_stage_duration_seconds_bucket has no label reason"]


def test_the_dashboards_are_those_of_their_source(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts/dashboards", tmp_path], check=True, timeout=30)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        path.name: path.read_text() for path in DASHBOARDS
    }, "run: .venv/bin/python scripts/dashboards"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_leads_to_its_place_in_the_runbook(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert ROOT / page == RUNBOOK
    # A heading of the page names the alert below it.
    sections = re.split(r"^## ", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {anchor_of(section.splitlines()[0]): section for section in sections}
    assert f"`{rule['alert']}`" in found[anchor]


def anchor_of(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_runbook_names_no_alert_that_is_gone() -> None:
    named = set(re.findall(r"`((?:Tagger|Triton|Redis|Kafka)[A-Z]\w+|NobodyReads\w+|Figures\w+)`", RUNBOOK.read_text()))
    assert named == {rule["alert"] for rule in rules()}


def test_names_of_topic_and_group_are_those_of_the_settings() -> None:
    kafka = Settings().kafka
    text = (ELSEWHERE / "kafka-exporter.prom").read_text(encoding="utf-8")
    assert set(re.findall(r'consumergroup="([^"]+)"', text)) == {kafka.group_id}
    assert set(re.findall(r'topic="([^"]+)"', text)) == {kafka.uploads_topic}


def test_the_alert_on_memory_knows_the_limit_of_the_container() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert compose["services"]["consumer"]["mem_limit"] == "2g"
    (rule,) = [rule for rule in rules() if rule["alert"] == "TaggerMemoryHigh"]
    assert "* 2 * 1024 * 1024 * 1024" in rule["expr"]


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    cases = yaml.safe_load((ROOT / "tests/prometheus/rules_test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for group in cases for case in group["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules()}
