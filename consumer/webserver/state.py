"""The page of the service: what answers, how fast results come, how far it is behind, which release is in force."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

from aiohttp import web

from consumer.events import milliseconds
from consumer.operations.lag import PartitionLag, lag
from consumer.redis.store import Store
from consumer.service import construction
from consumer.settings import Settings, mask_url
from consumer.web import charts
from consumer.webserver.newest import MINUTES
from consumer.webserver.site import SITE, Part, Site, part

_RELEASES_SHOWN: Final = 20
_PER_MINUTE_S: Final = 60.0


async def state(request: web.Request) -> web.Response:
    """The state of the service."""
    site = request.app[SITE]
    redis, triton, behind = await asyncio.gather(
        part(_asked(site, "redis", _ping_redis)),
        part(_asked(site, "triton", _ping_triton)),
        part(site.asker.ask("lag", partial(lag, site.settings), keep_s=2.0)),
    )
    minutes = site.feed.newest.by_minute(milliseconds(datetime.now(UTC)))
    return site.page(
        "state.html",
        page="state",
        answers=_answers(site, behind, redis, triton),
        behind=behind,
        oldest_s=max((row.oldest_age_s or 0.0 for row in behind.value or ()), default=0.0),
        minutes=minutes,
        # The present minute is not over.
        per_s=minutes[-2] / _PER_MINUTE_S,
        chart=charts.outline(minutes, max(minutes), 600, 90),
        chart_minutes=MINUTES,
        chain=list(reversed(site.feed.chain))[:_RELEASES_SHOWN],
    )


def _answers(
    site: Site, behind: Part[list[PartitionLag]], redis: Part[None], triton: Part[None]
) -> list[tuple[str, str, str]]:
    """Of each dependency its name, where it is, and why it does not answer, empty if it does."""
    settings = site.settings
    return [
        ("Kafka", settings.kafka.bootstrap_servers, site.feed.problem or behind.why),
        ("Redis", mask_url(settings.redis.url), redis.why),
        ("Triton", settings.triton.url, triton.why),
    ]


async def _asked(site: Site, name: str, ask: Callable[[Settings], Awaitable[None]]) -> None:
    """Asks a dependency in a thread, so that many readers ask once. Raises as `Asker.ask`, and `DependencyDown`."""

    async def answer() -> None:
        await ask(site.settings)

    await site.asker.ask(name, lambda: asyncio.run(answer()), keep_s=2.0)


async def _ping_redis(settings: Settings) -> None:
    async with Store(**settings.redis.model_dump()) as store:
        await store.ping()


async def _ping_triton(settings: Settings) -> None:
    async with construction.triton_client(settings) as client:
        await client.ping()
