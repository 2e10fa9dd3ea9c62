from typing import Any, cast

from consumer.fetch.limits import FetchLimits, HostLimits
from consumer.service import construction
from consumer.service.streams import Runtime
from consumer.settings import Settings
from consumer.telemetry import Metrics
from tests.fakes import RecordingLog, World

HOSTS = {
    "failure_threshold": 7,
    "startup_failure_threshold": 8,
    "healthy_s": 9.5,
    "max_wait_s": 10.5,
    "max_outage_s": 11.5,
    "probe_interval_s": 12.5,
    "overdue_s": 13.5,
    "max_share": 0.125,
    "max_total_share": 0.625,
}


def host_limits(settings: Settings) -> HostLimits:
    """The limits that photo hosts are judged by in a pipeline of these settings."""
    nothing = cast("Any", None)
    runtime = Runtime(nothing, RecordingLog(), Metrics(), dependencies=nothing, stuck=nothing, failed=nothing)
    return construction._pipeline_of(settings, World().steps(), runtime).hosts._limits


def test_photo_hosts_are_judged_by_the_limits_of_the_settings() -> None:
    assert host_limits(Settings()) == HostLimits()
    assert host_limits(Settings.model_validate({"hosts": HOSTS})) == HostLimits(**HOSTS)


def test_photos_are_fetched_within_the_limits_of_the_settings() -> None:
    assert construction.fetch_limits(Settings()) == FetchLimits()
    changed = {"schemes": ("file",), "stores": {"s3://abc": {}}, "max_bytes": 5, "total_timeout_s": 6.5}
    assert construction.fetch_limits(Settings.model_validate({"fetch": changed})) == FetchLimits(**changed)
