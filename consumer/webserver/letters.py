"""The page of dead letters: why photos were refused, and sending them again where that is allowed."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from aiohttp import web
from multidict import MultiMapping

from consumer.errors import REASONS
from consumer.operations import redrive
from consumer.operations.dead_letters import (
    Listed,
    Listing,
    Query,
    is_letter_id,
    list_letters,
    to_redrive,
)
from consumer.settings import Settings
from consumer.web.gallery import DeadLetter
from consumer.webserver.guards import TOKEN_FIELD
from consumer.webserver.site import SITE, Part, part, photo_page, quoted

#: Letters on the page, and most that one form sends again.
MOST: Final = 100
_HOURS: Final = {1: "hour", 24: "24 hours", 24 * 7: "7 days", 0: "any time"}
_USUAL_HOURS: Final = 24
#: Letters a second.
_RATE: Final = 50.0
_FORM_DEADLINE_S: Final = 20.0


async def letters(request: web.Request) -> web.Response:
    """The newest dead letters of a reason and a time."""
    site = request.app[SITE]
    reason, hours = _asked(request.query)
    found: Part[Listing] = await part(
        site.asker.ask(("letters", reason, hours), partial(_list, site.settings, reason, hours), keep_s=2.0)
    )
    listing = found.value or Listing([], 0)
    return site.page(
        "letters.html",
        page="letters",
        status=200 if found.value else 503,
        why=found.why,
        letters=[(each, _card(each)) for each in reversed(listing.letters)],
        total=listing.total,
        reasons=listing.reasons,
        reason=reason,
        hours=hours,
        times=_HOURS,
        said=_said(request.query),
    )


def _list(settings: Settings, reason: str, hours: int) -> Listing:
    since = datetime.now(UTC) - timedelta(hours=hours) if hours else None
    return list_letters(settings, Query(reason=reason or None, since=since), MOST)


def _asked(query: MultiMapping[str]) -> tuple[str, int]:
    """The reason, empty for any, and the hours, 0 for any time."""
    reason, hours = query.get("reason", ""), query.get("hours", "")
    known = {str(each): each for each in _HOURS}
    return reason if reason in REASONS else "", known.get(hours, _USUAL_HOURS)


def _card(each: Listed) -> DeadLetter:
    letter, failure = each.letter, each.letter.failure
    attempts = "1 attempt" if failure.attempt == 1 else f"{failure.attempt} attempts"
    picture = "" if letter.event is None else f"/picture?id={quoted(letter.event.photo_id)}&letter={letter.letter_id}"
    return DeadLetter(
        photo_id=letter.photo_id,
        name=letter.photo_id,
        reason=failure.reason,
        detail=failure.detail,
        thumbnail=picture or None,
        href=photo_page(letter.photo_id),
        note=f"{failure.failed_at.astimezone(UTC):%d %b %H:%M:%S} UTC · {attempts} · {letter.letter_id}",
    )


def _said(query: MultiMapping[str]) -> str:
    """What became of the form that led here; numbers alone, since anyone can write an address."""
    counts = [query.get(name, "") for name in ("sent", "left")]
    if not all(text.isascii() and text.isdecimal() and len(text) <= len(str(MOST)) for text in counts):
        return ""
    sent, left = map(int, counts)
    kept = f"; {left} cannot be sent again, or need not be" if left else ""
    return f"{sent} sent again{kept}."


async def retry(request: web.Request) -> web.Response:
    """Sends the letters that a form names to the upload topic again."""
    site = request.app[SITE]
    if not site.settings.web.allow_changes:
        return site.problem_page(403, "Nothing is changed here", "This page only shows: see web.allow_changes.")
    form = await request.post()
    if not site.guards.may_change(request, str(form.get(TOKEN_FIELD, ""))):
        return site.problem_page(
            403, "Not sent again", "The form is not of this server, or older than its start: load the page again."
        )
    wanted = [str(each) for each in form.getall("letter", []) if is_letter_id(str(each))][:MOST]
    if not wanted:
        return site.problem_page(400, "Not sent again", "No dead letter was chosen.")
    found = await part(
        site.asker.ask(
            ("retry", *wanted), partial(_send, site.settings, wanted), keep_s=0.0, deadline_s=_FORM_DEADLINE_S
        )
    )
    if found.value is None:
        return site.problem_page(503, "Not known to be sent", found.why)
    site.log.info("letters.sent_again", sent=found.value, asked=len(wanted))
    reason, hours = _asked(request.query)
    site.asker.forget(("letters", reason, hours))
    place = f"/dead-letters?reason={reason}&hours={hours}&sent={found.value}&left={len(wanted) - found.value}"
    return web.Response(status=web.HTTPSeeOther.status_code, headers={"Location": place})


def _send(settings: Settings, letter_ids: Collection[str]) -> int:
    """Sends letters again, and returns how many were.

    Raises:
        DependencyDown: Kafka or Redis does not answer; those before are sent.
    """
    listing = list_letters(settings, Query())
    chosen = [each for each in listing.letters if each.letter.letter_id in letter_ids]
    sends = redrive.events_of(settings, to_redrive(chosen, again=True))
    return len(redrive.send(settings, sends, _RATE, lambda _done, _total: None, lambda: False).sent)
