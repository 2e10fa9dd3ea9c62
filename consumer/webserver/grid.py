"""The grid of photos: the newest results, or the best of all times by the index in Redis."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

from aiohttp import web

from consumer import versions
from consumer.events import Tags
from consumer.operations.admin import find_photos, read_tags
from consumer.settings import Settings
from consumer.web.gallery import TaggedPhoto
from consumer.webserver.filters import PAGE, TIMES, Filter, filter_of
from consumer.webserver.site import SITE, Part, Site, part, photo_page, picture_of

#: The best of any of the brands, or of the good photos.
_FROM_INDEX: Final = 300
_BRANDS_SHOWN: Final = 16


async def grid(request: web.Request) -> web.Response:
    """The photos that the address asks for."""
    site, wanted = request.app[SITE], filter_of(request.query)
    newest = [each.tags for each in site.feed.newest.results()]
    found = await _candidates(site, wanted, newest)
    # A thousand results take some milliseconds, in which nobody else is answered.
    photos = await asyncio.to_thread(wanted.of, found.value or (), datetime.now(UTC))
    return site.page(
        "photos.html",
        page="photos",
        wanted=wanted,
        photos=[card(tags) for tags in wanted.turned(photos)],
        found=len(photos),
        first=(wanted.page - 1) * PAGE,
        kept=len(newest),
        oldest=newest[-1].tagged_at if newest else None,
        caught_up=site.feed.caught_up,
        why=found.why,
        times=TIMES,
        brands=_brands(newest, wanted),
        releases=_releases(newest, wanted),
        has_more=wanted.page * PAGE < len(photos),
    )


def card(tags: Tags) -> TaggedPhoto:
    """A photo as the grid shows it."""
    release = versions.release_in(tags.version)
    return TaggedPhoto(
        photo_id=tags.photo_id,
        name=tags.photo_id,
        quality=tags.quality,
        brands=tags.brands,
        thumbnail=picture_of(tags.photo_id, tags.source),
        href=photo_page(tags.photo_id),
        note=f"{tags.tagged_at.astimezone(UTC):%d %b %H:%M:%S} · release {release}",
    )


async def _candidates(site: Site, wanted: Filter, newest: Sequence[Tags]) -> Part[Sequence[Tags]]:
    if wanted.scope == "newest":
        return Part(newest)
    question = "index", wanted.brands
    return await part(site.asker.ask(question, partial(_best, site.settings, wanted.brands), keep_s=5.0))


def _best(settings: Settings, brands: Sequence[str]) -> Sequence[Tags]:
    """The best photos of some brands, or of all good ones; newest first.

    Raises:
        DependencyDown: Redis does not answer.
    """
    ids = [photo.photo_id for photo in find_photos(settings, brands, limit=_FROM_INDEX)]
    return sorted(read_tags(settings, ids, 0.0).values(), key=lambda tags: tags.tagged_at, reverse=True)


def _brands(newest: Iterable[Tags], wanted: Filter) -> list[tuple[str, int]]:
    """The brands that most of the newest photos show, and those that are wanted, with the number of photos."""
    counts = Counter(brand.brand for tags in newest for brand in tags.brands)
    shown = [brand for brand, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))][:_BRANDS_SHOWN]
    return [(brand, counts[brand]) for brand in dict.fromkeys((*shown, *wanted.brands))]


def _releases(newest: Iterable[Tags], wanted: Filter) -> list[int]:
    """The releases of the newest photos, and the one that is wanted, the newest first."""
    found = {versions.release_in(tags.version) or 0 for tags in newest} | {wanted.release}
    return sorted(found - {0}, reverse=True)
