"""Probes and metrics over HTTP: /live, /ready, /metrics; and what a service that is not ready waits for."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from consumer.errors import SettingsError


class Ready(Protocol):
    """A source, as readiness sees it."""

    @property
    def ready(self) -> bool:
        """Whether it has an assignment (or stands by) and its brokers answer."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """What `/ready` says: what is waited for (nothing while photos can be tagged), and the oldest unfinished record."""

    waiting_for: list[str]
    oldest: dict[str, object] | None = None


def waiting_for(
    lost: Iterable[str], sources: Sequence[Ready], complaints: Iterable[str | None], *, stopping: bool
) -> list[str]:
    """What a service waits for, as `/ready` says it; empty while photos can be tagged.

    Args:
        lost: The dependencies that do not answer, in words.
        sources: That of the live topic, then that of the retry topic; none before the dependencies have answered.
        complaints: Why the breaker holds photos back, which records have no outcome that Kafka takes, and which one is
            stuck, if so.
        stopping: Whether the service was asked to stop.
    """
    names = ("assignment", "assignment of retries")
    unready = [name for name, source in zip(names, sources, strict=False) if not source.ready]
    waiting = [*lost, *(unready if sources else names[:1])]
    said = (complaint for complaint in complaints if complaint is not None)
    # Several that ask the same server have the same words of it.
    return list(dict.fromkeys([*waiting, *said, *(["stopping"] if stopping else [])]))


@asynccontextmanager
async def serve_health(
    host: str,
    port: int,
    *,
    live: Callable[[], bool],
    readiness: Callable[[], Awaitable[Readiness]],
    metrics: Callable[[], Awaitable[bytes]],
) -> AsyncIterator[int]:
    """Serves the endpoint while the context lasts.

    `/live` is 200 while the process works: an outage of a dependency must not restart it. `/ready` is 200 when
    nothing is waited for, else 503 with the reasons; both name the oldest unfinished record. `/metrics` is a page of
    Prometheus text.

    Yields:
        The port, which the system chose if 0 was given.

    Raises:
        SettingsError: the address cannot be bound.
    """

    async def get_live(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if live() else web.Response(status=503, text="the Kafka thread hangs\n")

    async def get_ready(_: web.Request) -> web.Response:
        found = await readiness()
        body = {"ready": not found.waiting_for, "waiting_for": found.waiting_for, "oldest": found.oldest}
        return web.json_response(body, status=503 if found.waiting_for else 200)

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
