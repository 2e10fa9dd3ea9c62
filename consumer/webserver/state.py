"""The page of the service: what answers, how fast results come, how far it is behind, which release is in force."""

import asyncio
from functools import partial
from typing import Final

from aiohttp import web

from consumer.operations.lag import PartitionLag, lag
from consumer.redis.store import Store
from consumer.service import construction
from consumer.settings import Settings, mask_url
from consumer.web import charts
from consumer.webserver.asking import DEADLINE_S, NotYet
from consumer.webserver.newest import MINUTES
from consumer.webserver.site import SITE, Part, Site, part

_RELEASES_SHOWN: Final = 20
_PER_MINUTE_S: Final = 60.0


async def state(request: web.Request) -> web.Response:
    """The state of the service."""
    site = request.app[SITE]
    redis, triton, behind = await asyncio.gather(
        part(site.asker.ask("redis", partial(_ping_redis, site.settings), keep_s=2.0)),
        # It has a deadline of its own.
        part(site.asker.share("triton", partial(_ping_triton, site.settings), keep_s=2.0, deadline_s=DEADLINE_S + 1)),
        part(site.asker.ask("lag", partial(lag, site.settings), keep_s=2.0)),
    )
    minutes = site.feed.newest.by_minute()
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


def _ping_redis(settings: Settings) -> None:
    """Checks that Redis answers.

    Raises:
        DependencyDown: it does not.
    """

    async def ping() -> None:
        async with Store(**settings.redis.model_dump()) as store:
            await store.ping()

    asyncio.run(ping())


async def _ping_triton(settings: Settings) -> None:
    """Checks that Triton answers; in this event loop, since gRPC's clients of several loops disturb each other.

    Raises:
        DependencyDown: it does not.
        NotYet: nor does it refuse.
    """
    try:
        async with asyncio.timeout(DEADLINE_S), construction.triton_client(settings) as client:
            await client.ping()
    except TimeoutError:
        raise NotYet(f"Triton gave no answer in {DEADLINE_S:g} s") from None
