"""Probes and metrics over HTTP: /live, /ready, /metrics."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from consumer.errors import SettingsError


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
