"""What all pages share: where they ask, what stands on each of them, and how one is made."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import jinja2
from aiohttp import web

from consumer.errors import NotFound, TaggerError
from consumer.escape import printable
from consumer.events import Source, format_source
from consumer.fetch.urls import parsed, shown
from consumer.operations.dead_letters import State
from consumer.settings import Settings
from consumer.telemetry import Log
from consumer.web import pages
from consumer.webserver.asking import Asker, in_words
from consumer.webserver.feed import Feed
from consumer.webserver.guards import TOKEN_FIELD, Guards
from consumer.webserver.pictures import Pictures
from consumer.webserver.records import Records

T = TypeVar("T")

TEMPLATES: Final = Path(__file__).parent / "templates"
_LETTER_STATES: Final[Mapping[State, str]] = {
    "waiting": "not sent again",
    "redriven": "sent again, without an outcome yet",
    "failed_again": "sent again, and refused again",
    "succeeded": "tagged since",
}
#: No photo has a longer id; a longer address would be refused.
MOST_ID: Final = 1000


def environment() -> jinja2.Environment:
    """The templates of the pages."""
    made = pages.environment(TEMPLATES)
    made.filters |= {"number": "{:,}".format, "time": _time, "photo_page": photo_page, "ago": _ago}
    made.filters["letter_state"] = _LETTER_STATES.__getitem__
    return made


@dataclass(frozen=True, slots=True)
class Site:
    """The parts that the pages are made with."""

    settings: Settings
    log: Log
    guards: Guards
    asker: Asker
    feed: Feed
    records: Records
    pictures: Pictures
    templates: jinja2.Environment = field(default_factory=environment)

    def page(
        self,
        template: str,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        **values: Any,  # noqa: ANN401 - of any template
    ) -> web.Response:
        """An answer with a page; `values` are those of its template."""
        chain = self.feed.chain
        text = self.templates.get_template(template).render(
            release=chain[-1].number if chain else None,
            problem=self.feed.problem,
            changes=self.settings.web.allow_changes,
            token=self.guards.token,
            token_field=TOKEN_FIELD,
            now=datetime.now(UTC),
            **values,
        )
        return web.Response(text=text, content_type="text/html", charset="utf-8", status=status, headers=headers)

    def problem_page(self, status: int, title: str, what: str) -> web.Response:
        """A page that says what is wrong."""
        return self.page("problem.html", status=status, page="", title=title, what=what)


SITE: Final = web.AppKey("site", Site)


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """A part of a page, or why it is missing."""

    value: T | None
    why: str = ""


async def part(answer: Awaitable[T]) -> Part[T]:
    """An answer, or why there is none: the rest of the page is shown all the same.

    Raises:
        NotFound: what the page is about is not there.
    """
    try:
        return Part(await answer)
    except NotFound:
        raise
    except TaggerError as failure:
        return Part(None, in_words(failure))


def photo_page(photo_id: str) -> str:
    """The address of a photo's page; empty where no photo can have this id."""
    return f"/photo?id={quoted(photo_id)}" if 0 < len(photo_id) <= MOST_ID else ""


def picture_of(photo_id: str, place: Source) -> str:
    """The address of a photo's picture. The place is there so that new content has a new address: nothing reads it."""
    return f"/picture?id={quoted(photo_id)}&of={quoted(format_source(place))}"


def quoted(text: str) -> str:
    """A text as a value in an address."""
    return quote(text, safe="", errors="replace")


def shown_uri(uri: str) -> str:
    """A URI without its query and credentials, which may be a signature."""
    try:
        return shown(parsed(uri))
    except TaggerError:
        return printable(uri[:100])


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _ago(seconds: float) -> str:
    """A duration as a person reads it: `12 s`, `3 min`, `5 h`, `2 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
