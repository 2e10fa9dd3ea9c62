"""The grid of photos: the newest results, or the best of all times by the index in Redis."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from aiohttp import web

from consumer import versions
from consumer.events import Tags
from consumer.operations.admin import find_photos, read_tags
from consumer.reader.found import cursor_of
from consumer.settings import Settings
from consumer.web.gallery import TaggedPhoto
from consumer.webserver.filters import PAGE, TIMES, Filter, filter_of
from consumer.webserver.site import SITE, Part, part, photo_page, picture_of

#: Photos of the index that are looked at for a page: one after the other, until the filters leave enough of them.
_LOOKS: Final = (PAGE + 1, 300, 300, 300, 300)
_BRANDS_SHOWN: Final = 16


@dataclass(frozen=True, slots=True)
class _Turned:
    """The photos of one page, how many there are beside it, and what the next page of the index begins behind."""

    photos: Sequence[Tags] = ()
    found: int = 0
    next_page: int = 0
    cursor: str = ""


async def grid(request: web.Request) -> web.Response:
    """The photos that the address asks for."""
    site, wanted = request.app[SITE], filter_of(request.query)
    newest = [each.tags for each in site.feed.newest.results()]
    if wanted.scope == "index":
        page = await part(site.asker.ask(("index", wanted), partial(_best, site.settings, wanted), keep_s=5.0))
    else:
        # A thousand results take some milliseconds, in which nobody else is answered.
        page = Part(await asyncio.to_thread(_newest, newest, wanted))
    turned = page.value or _Turned()
    return site.page(
        "photos.html",
        page="photos",
        wanted=wanted,
        photos=[card(tags) for tags in turned.photos],
        turned=turned,
        first=(wanted.page - 1) * PAGE,
        kept=len(newest),
        oldest=newest[-1].tagged_at if newest else None,
        caught_up=site.feed.caught_up,
        why=page.why,
        times=TIMES,
        brands=_brands(newest, wanted),
        releases=_releases(newest, wanted),
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


def _newest(newest: Sequence[Tags], wanted: Filter) -> _Turned:
    """The page among the newest results."""
    photos = wanted.of(newest, datetime.now(UTC))
    more = wanted.page + 1 if wanted.page * PAGE < len(photos) else 0
    return _Turned(wanted.turned(photos), len(photos), more)


def _best(settings: Settings, wanted: Filter) -> _Turned:
    """The page of the best photos of some brands, or of all good ones.

    Raises:
        DependencyDown: Redis does not answer.
    """
    since, cursor, photos = wanted.since(datetime.now(UTC)), wanted.after or None, list[Tags]()
    for limit in _LOOKS:
        page = find_photos(settings, wanted.brands, wanted.least, since=since, limit=limit, cursor=cursor)
        cursor, ids = page.cursor, [photo.photo_id for photo in page]
        tags = read_tags(settings, ids, 0.0)
        photos += [tags[photo_id] for photo_id in ids if photo_id in tags and wanted.wants(tags[photo_id])]
        if cursor is None or len(photos) > PAGE:
            break
    if len(photos) > PAGE:
        photos = photos[:PAGE]
        cursor = cursor_of((photos[-1].quality.score, photos[-1].photo_id))
    return _Turned(photos, cursor=cursor or "")


def _brands(newest: Iterable[Tags], wanted: Filter) -> list[tuple[str, int]]:
    """The brands that most of the newest photos show, and those that are wanted, with the number of photos."""
    counts = Counter(brand.brand for tags in newest for brand in tags.brands)
    shown = [brand for brand, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))][:_BRANDS_SHOWN]
    return [(brand, counts[brand]) for brand in dict.fromkeys((*shown, *wanted.brands))]


def _releases(newest: Iterable[Tags], wanted: Filter) -> list[int]:
    """The releases of the newest photos, and the one that is wanted, the newest first."""
    found = {versions.release_in(tags.version) or 0 for tags in newest} | {wanted.release}
    return sorted(found - {0}, reverse=True)
