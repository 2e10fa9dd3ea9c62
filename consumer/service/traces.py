"""Whether a service has traces. Where it has none, nothing of OpenTelemetry is imported, and it need not be there."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from consumer.errors import SettingsError
from consumer.service.streams import Job, retry_group
from consumer.settings import Settings, mask_url
from consumer.telemetry import Log, Metrics

if TYPE_CHECKING:
    from consumer.tracing.tracing import Tracing

#: The standard variables that say where traces go; the first counts more.
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_MISSING: Final = "traces need the extra otel: pip install 'photo-tagger[otel]', or requirements/otel.txt"


@asynccontextmanager
async def tracing_of(settings: Settings, job: Job, log: Log, metrics: Metrics) -> "AsyncIterator[Tracing | None]":
    """The traces of a service, as long as the context lasts; None where nothing asks for them.

    A replay or a run has none: its records were traced when they were new. A variable that is set for every process
    of a host stops no service that lacks the extra; the setting does.

    Raises:
        SettingsError: `tracing.endpoint` is set, and the extra is missing.

    Yields:
        The traces.
    """
    asked = asked_for(settings)
    if asked is None or job.sink_of is not None:
        yield None
        return
    try:
        from consumer.tracing.collector import Collector  # noqa: PLC0415 - an extra
        from consumer.tracing.tracing import Surroundings, Tracing  # noqa: PLC0415 - as above
    except ModuleNotFoundError as missing:
        if settings.tracing.endpoint:
            raise SettingsError(_MISSING, setting="tracing.endpoint") from None
        log.warning("tracing.unavailable", detail=f"{asked} is set, but {missing.name} is not installed: {_MISSING}")
        yield None
        return
    tracing, kafka = settings.tracing, settings.kafka
    ways = Collector(tracing.endpoint, tracing.headers.get_secret_value(), tracing.sample_ratio, tracing.service_name)
    groups = {kafka.uploads_topic: job.group_id, kafka.retry_topic: retry_group(job.group_id)}
    around = Surroundings(settings.triton.url, settings.redis.url, settings.redis.cluster, kafka.topics, groups)
    async with Tracing(ways, around, log, metrics) as traces:
        log.info("tracing.started", collector=mask_url(tracing.endpoint or os.environ[asked]).partition("?")[0])
        yield traces


def asked_for(settings: Settings, environ: Mapping[str, str] = os.environ) -> str | None:
    """The setting or the variable that asks for traces; None where nothing does, or they are switched off."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if settings.tracing.endpoint:
        return "tracing.endpoint"
    if environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() != "otlp":
        return None
    return next((name for name in _ENDPOINTS if environ.get(name, "").strip()), None)
