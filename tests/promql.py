"""The queries of the dashboards and alerts, and whether the series that they name are there."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import promql_parser
import yaml

ROOT = Path(__file__).resolve().parents[1]
DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
#: What Prometheus adds to every series that it reads, and makes itself.
TARGET = {"job", "instance"}
OWN = {"up": TARGET, "ALERTS": TARGET | {"alertname", "alertstate", "severity"}}
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}


@dataclass(frozen=True)
class Query:
    """One query, where it stands, and the labels that its legend shows."""

    place: str
    text: str
    legend: frozenset[str] = frozenset()

    @property
    def parsed(self) -> promql_parser.Expr:
        """As PromQL; Grafana's variable for the span of a rate is one span."""
        return promql_parser.parse(self.text.replace("$__rate_interval", "1m"))


@dataclass
class Series:
    """Names of series with their labels, and the values of these that were seen."""

    labels: dict[str, set[str]] = field(default_factory=dict)
    values: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)

    def __or__(self, other: "Series") -> "Series":
        both = Series()
        for each in (self, other):
            for name, labels in each.labels.items():
                both.labels.setdefault(name, set()).update(labels)
            for place, values in each.values.items():
                both.values.setdefault(place, set()).update(values)
            both.declared |= each.declared
        return both


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels that show something."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def dashboard_queries() -> list[Query]:
    """Those of every panel."""
    return [
        Query(
            f"{path.stem}: {panel['title']}",
            target["expr"],
            frozenset(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])),
        )
        for path in DASHBOARDS
        for panel in panels(json.loads(path.read_text(encoding="utf-8")))
        for target in panel["targets"]
    ]


def rules() -> list[dict[str, Any]]:
    """The alerts."""
    groups = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alert_queries() -> list[Query]:
    """Those of every alert, with the labels that its summary shows."""
    return [
        Query(
            f"alert {rule['alert']}",
            rule["expr"],
            frozenset(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])),
        )
        for rule in rules()
    ]


def jobs() -> Series:
    """What Prometheus knows of itself: the jobs that it is told of."""
    described = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    return Series(values={("up", "job"): {job["job_name"] for job in described["scrape_configs"]}})


def exposed(text: str) -> Series:
    """What a `/metrics` shows, by the names that Prometheus gives them; a family without samples is declared only."""
    found = Series()
    for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE):
        found.declared |= {name + suffix for suffix in _SUFFIXES.get(kind, ("",))}
    for name, labels in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        found.labels.setdefault(name, set())
        for label, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels):
            found.labels[name].add(label)
            found.values.setdefault((name, label), set()).add(value)
    return found


def selectors(parsed: promql_parser.Expr) -> Iterator[promql_parser.VectorSelector]:
    """The names of series in a query, with what they are chosen by."""
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(parsed, visit)
    yield from found


def grouped(parsed: promql_parser.Expr) -> Iterator[tuple[set[str], promql_parser.Expr]]:
    """The labels that are kept by each aggregation, with what is aggregated."""
    found: list[tuple[set[str], promql_parser.Expr]] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            assert node.modifier.type == promql_parser.AggModifierType.By
            found.append((set(node.modifier.labels), node.expr))

    promql_parser.walk(parsed, visit)
    yield from found


def faults(query: Query, known: Series) -> list[str]:
    """What the query names that is not there: series, labels and their values."""
    parsed, found = query.parsed, []
    for selector in selectors(parsed):
        name = selector.name
        if name not in known.labels and name not in OWN:
            found.append(f"no series {name}")
            continue
        for matcher in selector.matchers.matchers:
            found += _matcher_faults(name, matcher, known)
    for labels, inside in grouped(parsed):
        found += _label_faults(labels, inside, known)
    return [f"{query.place}: {fault}" for fault in (*found, *_label_faults(query.legend, parsed, known))]


def _labels_of(name: str, known: Series) -> set[str]:
    return known.labels.get(name, set()) | TARGET | OWN.get(name, set())


def _label_faults(labels: set[str] | frozenset[str], inside: promql_parser.Expr, known: Series) -> list[str]:
    names = {selector.name for selector in selectors(inside)}
    return [
        f"{name} has no label {label}"
        for name in names
        for label in sorted(labels - _labels_of(name, known) - {"worker"})
    ]


def _matcher_faults(name: str, matcher: promql_parser.Matcher, known: Series) -> list[str]:
    if matcher.name not in _labels_of(name, known):
        return [f"{name} has no label {matcher.name}"]
    values = known.values.get((name, matcher.name)) or known.values.get(("up", matcher.name))
    if values is None:  # of a series that Prometheus makes
        return []
    pattern = matcher.value if matcher.op in (promql_parser.MatchOp.Re, promql_parser.MatchOp.NotRe) else None
    # A part of an alternative that is nowhere is a misspelling too.
    parts = pattern.split("|") if pattern is not None and not set("()") & set(pattern) else [pattern or matcher.value]
    return [
        f"{name}: no {matcher.name} is {part}"
        for part in parts
        if not any(re.fullmatch(part if pattern is not None else re.escape(part), value) for value in values)
    ]
