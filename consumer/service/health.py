"""Probes and metrics over HTTP: /live, /ready, /metrics."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from consumer.errors import SettingsError
from consumer.telemetry import Metrics

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serve_health(
    host: str, port: int, *, metrics: Metrics, live: Callable[[], bool], not_ready: Callable[[], list[str]]
) -> AsyncIterator[int]:
    """Serves the endpoint while the context lasts.

    `/live` is 200 while the process works at all: an outage of a dependency must not get it killed. `/ready` is 200
    when there is nothing in `not_ready`, else 503 with the reasons.

    Yields:
        The port; the endpoint answers until the context ends.
    """

    async def get_live(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if live() else web.Response(status=503, text="the Kafka thread hangs\n")

    async def get_ready(_: web.Request) -> web.Response:
        reasons = not_ready()
        return web.json_response({"ready": not reasons, "waiting_for": reasons}, status=503 if reasons else 200)

    async def get_metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async with serve(host, port, {"/live": get_live, "/ready": get_ready, "/metrics": get_metrics}) as bound_port:
        yield bound_port


@asynccontextmanager
async def serve(host: str, port: int, answers: Mapping[str, Answer]) -> AsyncIterator[int]:
    """Answers GET requests for the given paths while the context lasts.

    Yields:
        The port, which the system chose where 0 was asked for.

    Raises:
        SettingsError: the address cannot be bound.
    """
    app = web.Application()
    app.add_routes([web.get(path, answer) for path, answer in answers.items()])
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
