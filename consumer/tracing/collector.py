"""The collector: what the settings and the standard variables `OTEL_*` say of it, and the exporter that reaches it."""

import logging
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.util.re import parse_env_headers
from requests import RequestException

from consumer import __version__
from consumer.tracing.outlet import OutletLimits

_SERVICE: Final = "photo-tagger"
_PATH: Final = "/v1/traces"


@dataclass(frozen=True, slots=True)
class Collector:
    """Where traces go, and which; what is empty or None is as the standard variables say."""

    endpoint: str = ""
    headers: str = ""
    sample_ratio: float | None = None
    service_name: str = ""


class Session(requests.Session):
    """The connections to a collector; it remembers what came of the last request, in words without its URL."""

    last = "not asked yet"

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # noqa: ANN401 - as the base
        """As the base class.

        Raises:
            RequestException: as the base class.
        """
        try:
            response = super().send(request, **options)
        except RequestException as failure:
            self.last = type(failure).__name__
            raise
        self.last = f"HTTP {response.status_code}"
        return response


def exporter_to(collector: Collector, session: Session) -> SpanExporter:
    """The exporter. What it logs itself, once for each attempt, goes nowhere: `Outlet` says what changes."""
    sdk = logging.getLogger("opentelemetry")
    sdk.propagate = False
    if not sdk.handlers:
        sdk.addHandler(logging.NullHandler())
    endpoint = collector.endpoint
    if endpoint and urlsplit(endpoint).path in {"", "/"}:
        endpoint = endpoint.rstrip("/") + _PATH
    headers = parse_env_headers(collector.headers, liberal=True) if collector.headers else None
    return OTLPSpanExporter(endpoint or None, headers=headers, session=session)


def limits_of(environ: Mapping[str, str] = os.environ) -> OutletLimits:
    """The bounds of the queue; a variable that is no positive number does not count."""

    def number(name: str, default: int) -> int:
        text = environ.get(f"OTEL_BSP_{name}", "").strip()
        return int(text) if text.isascii() and text.isdecimal() and int(text) > 0 else default

    usual = OutletLimits()
    most = number("MAX_QUEUE_SIZE", usual.most)
    at_once = min(number("MAX_EXPORT_BATCH_SIZE", usual.at_once), most)
    return OutletLimits(most, at_once, number("SCHEDULE_DELAY", int(usual.every_s * 1000)) / 1000)


def sampler_of(collector: Collector) -> Sampler | None:
    """Which traces are recorded that begin here; a sender decides on its own. None: as `OTEL_TRACES_SAMPLER` says."""
    ratio = collector.sample_ratio
    return None if ratio is None else ParentBased(TraceIdRatioBased(ratio))


def resource_of(collector: Collector, environ: Mapping[str, str] = os.environ) -> Resource:
    """What each span says of this process."""
    said = {SERVICE_VERSION: __version__, SERVICE_INSTANCE_ID: str(uuid.uuid4())}
    named = SERVICE_NAME + "=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "") or environ.get("OTEL_SERVICE_NAME")
    if collector.service_name or not named:
        said[SERVICE_NAME] = collector.service_name or _SERVICE
    return Resource.create(said)
