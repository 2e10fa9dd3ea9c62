"""The page of one photo: its tags, all probabilities, where it came from, what became of it; and its picture."""

import asyncio
from functools import partial
from typing import Final

from aiohttp import web

from consumer import versions
from consumer.events import PhotoUploaded, Source, Tags
from consumer.operations.admin import read_tags
from consumer.operations.dead_letters import is_letter_id
from consumer.operations.status import Status, status
from consumer.webserver.pictures import Picture
from consumer.webserver.site import MOST_ID, SITE, Part, Site, part, picture_of, shown_uri

_PLACEHOLDER: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 240 160"><g fill="none" stroke="#7d8694" stroke-width="3" '
    'stroke-linecap="round"><rect x="104" y="68" width="32" height="24" rx="5"/><path d="M102 66l36 28"/></g></svg>'
)
_STATES: Final = {
    "tagged": "tagged",
    "deleted": "deleted: its tags are gone, and older uploads do not bring them back",
    "waiting": "waiting for its next attempt",
    "queued": "not read by the service yet",
    "dead_letter": "a dead letter: it was refused",
    "not_seen": "not seen: no tags, no record that waits, no dead letter",
}


async def photo(request: web.Request) -> web.Response:
    """All about the photo whose id the address has."""
    site, photo_id = request.app[SITE], request.query.get("id", "")
    if not 0 < len(photo_id) <= MOST_ID:
        return site.problem_page(400, "No such photo", f"A photo id has 1 to {MOST_ID} characters.")
    known = site.feed.newest.get(photo_id)
    found: Part[Status] = await part(site.asker.ask(("status", photo_id), partial(status, site.settings, photo_id)))
    in_force = found.value.in_force if found.value else known and known.tags
    tags = in_force if isinstance(in_force, Tags) else None
    event, probabilities = await asyncio.gather(
        part(_event(site, photo_id, found.value, tags)), part(_probabilities(site, tags))
    )
    return site.page(
        "photo.html",
        status=404 if found.value and found.value.state == "not_seen" else 200,
        page="photo",
        photo_id=photo_id,
        found=found,
        state=_STATES[found.value.state] if found.value else "",
        tags=tags,
        tagged_under=versions.release_in(tags.version) if tags else None,
        picture=_address(photo_id, found.value, tags),
        event=event,
        uri=shown_uri(event.value.uri) if event.value else "",
        probabilities=probabilities,
    )


def _address(photo_id: str, found: Status | None, tags: Tags | None) -> str:
    if tags is not None:
        return picture_of(photo_id, tags.source)
    return (
        f"{picture_of(photo_id, Source('', 0, 0))}&letter={found.letters[-1].letter_id}"
        if found and found.letters
        else ""
    )


async def _event(site: Site, photo_id: str, found: Status | None, tags: Tags | None) -> PhotoUploaded | None:
    """The upload event: the one of the tags, else that of the last dead letter. Raises as `Records.at`."""
    if tags is not None:
        return await site.records.upload(photo_id, tags.source)
    if found is not None and found.letters:
        return await site.records.upload(photo_id, _place_of_letter(site, found.letters[-1].letter_id))
    return None


async def _probabilities(site: Site, tags: Tags | None) -> dict[str, float]:
    """All probabilities where the record of the result is known, else those of the brands. Raises as `Records.at`."""
    if tags is None:
        return {}
    known = site.feed.newest.get(tags.photo_id)
    found = {} if known is None else await site.records.probabilities(tags, known.place)
    return found or {brand.brand: brand.probability for brand in tags.brands}


async def picture(request: web.Request) -> web.Response:
    """The picture of a photo, or of the event in a dead letter; a placeholder where there is none."""
    site, photo_id = request.app[SITE], request.query.get("id", "")
    letter_id = request.query.get("letter", "")
    place: Source | None = None
    if is_letter_id(letter_id):
        place = _place_of_letter(site, letter_id)
    elif 0 < len(photo_id) <= MOST_ID:
        place = await _place_of(site, photo_id)
    drawn = Picture(why="there is no such photo") if place is None else await site.pictures.of(photo_id, place)
    if not drawn.jpeg:
        return web.Response(status=404, text=_PLACEHOLDER, content_type="image/svg+xml")
    return web.Response(body=drawn.jpeg, content_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})


def _place_of_letter(site: Site, letter_id: str) -> Source:
    partition, offset = map(int, letter_id.split("/"))
    return Source(site.settings.kafka.dead_topic, partition, offset)


async def _place_of(site: Site, photo_id: str) -> Source | None:
    """Where the event of a photo's tags is."""
    known = site.feed.newest.get(photo_id)
    if known is not None:
        return known.tags.source
    job = partial(read_tags, site.settings, [photo_id], 0.0)
    found = (await part(site.asker.ask(("tags", photo_id), job))).value or {}
    return found[photo_id].source if photo_id in found else None
