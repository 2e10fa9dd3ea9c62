"""Traces are off unless they are asked for, and then nothing of OpenTelemetry is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from consumer.service.traces import asked_for
from consumer.settings import Settings, rows

ROOT = Path(__file__).resolve().parents[3]
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}
SET = {"endpoint": "http://c:4318"}


@pytest.mark.parametrize(
    ("tracing", "environ", "asked"),
    [
        ({}, {}, None),
        ({}, ENDPOINT, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({}, ENDPOINT | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "x"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({}, ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, None),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None),
        (SET, {}, "tracing.endpoint"),
        (SET, ENDPOINT, "tracing.endpoint"),
        (SET, {"OTEL_TRACES_EXPORTER": "none"}, "tracing.endpoint"),
        (SET, {"OTEL_SDK_DISABLED": "True"}, None),
    ],
)
def test_what_asks_for_traces(tracing: dict[str, str], environ: dict[str, str], asked: str | None) -> None:
    assert asked_for(Settings(tracing=tracing), environ) == asked


@pytest.mark.parametrize(
    "endpoint", ["c:4318", "grpc://c:4317", "http://", "http://c:0", "http://me:pw@c", "http://c/?key=x", "http://c d"]
)
def test_an_endpoint_is_a_url_without_secrets(endpoint: str) -> None:
    with pytest.raises(ValidationError) as error:
        Settings(tracing={"endpoint": endpoint})
    assert "pw" not in str(error.value)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, "half"])
def test_a_ratio_is_a_share(ratio: object) -> None:
    with pytest.raises(ValidationError):
        Settings(tracing={"sample_ratio": ratio})


def test_headers_are_masked_and_an_empty_ratio_is_none() -> None:
    settings = Settings(tracing={"headers": "key=canary", "sample_ratio": ""})
    assert settings.tracing.sample_ratio is None
    shown = {row.name: row.value for row in rows(settings, {})}
    assert shown["tracing.headers"] == "***"
    assert "canary" not in str(shown) + repr(settings)


#: Says what of OpenTelemetry a service imports whose setting stands in place of `{}`; Redis' client imports some of it
#: on its own, where it is there.
SCRIPT = """
import asyncio, redis.asyncio, sys
before = set(sys.modules)
from consumer.errors import SettingsError
from consumer.service.construction import live_job
from consumer.service.run import run_live
from consumer.service.traces import tracing_of
from consumer.settings import Settings
from consumer.telemetry import Metrics, configure_logging

async def main():
    settings, log, metrics = Settings(tracing={}), configure_logging("info", "json"), Metrics()
    async with tracing_of(settings, live_job(settings), log, metrics) as traces:
        print("traces", traces)

try:
    asyncio.run(main())
except SettingsError as error:
    print(error)
print("imported", [name for name in set(sys.modules) - before if name.startswith("opentelemetry")])
"""


def said(tracing: dict[str, str], **environ: str) -> str:
    command = [sys.executable, "-c", SCRIPT.replace("{}", repr(tracing))]
    environ |= {"PYTHONPATH": f"{environ.get('PYTHONPATH', '')}:{ROOT}", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr == ""
    return ended.stdout


@pytest.fixture
def without_extra(tmp_path: Path) -> str:
    """A path that hides the extra."""
    (tmp_path / "opentelemetry.py").write_text("raise ModuleNotFoundError('gone', name='opentelemetry')\n")
    # Others may have brought it.
    (tmp_path / "requests.py").touch()
    return str(tmp_path)


def test_nothing_is_imported_without_traces() -> None:
    assert said({}) == "traces None\nimported []\n"


def test_a_setting_without_the_extra_is_said_in_one_line(without_extra: str) -> None:
    assert said(SET, PYTHONPATH=without_extra) == (
        "tracing.endpoint: traces need the extra otel: pip install 'photo-tagger[otel]', or requirements/otel.txt\n"
        "imported []\n"
    )


def test_a_variable_without_the_extra_stops_nothing(without_extra: str) -> None:
    lines = said({}, PYTHONPATH=without_extra, **ENDPOINT).splitlines()
    assert lines[1:] == ["traces None", "imported []"]
    assert '"event":"tracing.unavailable"' in lines[0]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set, but opentelemetry is not installed" in lines[0]
