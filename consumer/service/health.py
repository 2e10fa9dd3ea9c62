"""Probes and metrics over HTTP: /live, /ready, /metrics; and what a service that is not ready waits for."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from consumer.errors import SettingsError


class Ready(Protocol):
    """A source, as readiness sees it."""

    @property
    def ready(self) -> bool:
        """Whether it has an assignment (or stands by) and its brokers answer."""


def waiting_for(lost: Iterable[str], sources: Sequence[Ready], complaint: str | None, *, stopping: bool) -> list[str]:
    """What a service waits for, as `/ready` says it; empty while photos can be tagged.

    Args:
        lost: The dependencies that do not answer.
        sources: That of the live topic, then that of the retry topic; none before the dependencies have answered.
        complaint: Why the breaker holds photos back, if it does.
        stopping: Whether the service was asked to stop.
    """
    names = ("assignment", "assignment of retries")
    unready = [name for name, source in zip(names, sources, strict=False) if not source.ready]
    waiting = [*lost, *(unready if sources else names[:1])]
    return [*waiting, *([] if complaint is None else [complaint]), *(["stopping"] if stopping else [])]


@asynccontextmanager
async def serve_health(
    host: str,
    port: int,
    *,
    live: Callable[[], bool],
    not_ready: Callable[[], Awaitable[list[str]]],
    metrics: Callable[[], Awaitable[bytes]],
) -> AsyncIterator[int]:
    """Serves the endpoint while the context lasts.

    `/live` is 200 while the process works: an outage of a dependency must not restart it. `/ready` is 200 when
    `not_ready` is empty, else 503 with its reasons. `/metrics` is a page of Prometheus text.

    Yields:
        The port, which the system chose if 0 was given.

    Raises:
        SettingsError: the address cannot be bound.
    """

    async def get_live(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if live() else web.Response(status=503, text="the Kafka thread hangs\n")

    async def get_ready(_: web.Request) -> web.Response:
        reasons = await not_ready()
        return web.json_response({"ready": not reasons, "waiting_for": reasons}, status=503 if reasons else 200)

    async def get_metrics(_: web.Request) -> web.Response:
        return web.Response(body=await metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/live", get_live), web.get("/ready", get_ready), web.get("/metrics", get_metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise SettingsError(f"health.host and health.port: cannot listen on {host}:{port}: {error}") from None
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
