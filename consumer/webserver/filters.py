"""Which photos the grid shows, as its address says. Pure; what makes no sense in an address counts as not said."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol, cast, get_args
from urllib.parse import urlencode

from consumer import versions
from consumer.events import Tags
from consumer.reader.found import place_of
from consumer.tags import scores_of

Quality = Literal["", "good", "poor"]
Order = Literal["newest", "best", "worst"]
Scope = Literal["newest", "index"]

#: Choices of the time, in minutes.
TIMES: Final[Mapping[int, str]] = {5: "5 minutes", 60: "hour", 24 * 60: "24 hours", 7 * 24 * 60: "7 days"}
PAGE: Final = 60
_MOST_BRANDS: Final = 10
_MOST_TEXT: Final = 200
_DIGITS: Final = 7


class Query(Protocol):
    """The query of an address."""

    def get(self, key: str, default: str) -> str:
        """The first value of a name."""

    def getall(self, key: str, default: list[str]) -> list[str]:
        """All values of a name."""


@dataclass(frozen=True, slots=True)
class Filter:
    """The photos that a reader wants to see. `within` is in minutes, 0 for any time; `release` 0 for any."""

    brands: tuple[str, ...] = ()
    quality: Quality = ""
    level: int = 1
    release: int = 0
    within: int = 0
    order: Order = "newest"
    #: `index`: the best of these brands, or of all good photos, in Redis, of all times, and best first.
    scope: Scope = "newest"
    page: int = 1
    #: Behind which photo the page of the index begins, a cursor of `find`.
    after: str = ""

    def of(self, tags: Iterable[Tags], now: datetime) -> list[Tags]:
        """Those that are wanted, in the order that is wanted; they come newest first."""
        since = self.since(now)
        found = [each for each in tags if self.wants(each) and (since is None or each.tagged_at >= since)]
        if self.order != "newest":
            found.sort(key=lambda each: (each.quality.score, each.photo_id), reverse=self.order == "best")
        return found

    def since(self, now: datetime) -> datetime | None:
        """The time from which on they are wanted."""
        return now - timedelta(minutes=self.within) if self.within else None

    @property
    def least(self) -> float:
        """The lowest score that is wanted."""
        return scores_of(self.level)[0]

    def wants(self, tags: Tags) -> bool:
        """Whether a photo is wanted, whenever it was tagged."""
        return (
            tags.quality.level >= self.level
            and self.quality in {"", "good" if tags.quality.good else "poor"}
            and self.release in {0, versions.release_in(tags.version)}
            and (not self.brands or any(brand.brand in self.brands for brand in tags.brands))
        )

    def turned(self, photos: Sequence[Tags]) -> Sequence[Tags]:
        """Those of its page."""
        return photos[(self.page - 1) * PAGE : self.page * PAGE]

    def query(self, **changes: object) -> str:
        """The query of the address that says this, with changes; only what is not as usual."""
        wanted = replace(self, **changes)  # type: ignore[arg-type]  # of fields above
        usual = Filter()
        pairs: list[tuple[str, object]] = [("brand", brand) for brand in wanted.brands]
        names = ("quality", "level", "release", "within", "order", "scope", "page", "after")
        pairs += [(name, value) for name in names if (value := getattr(wanted, name)) != getattr(usual, name)]
        return urlencode(pairs)


def filter_of(query: Query) -> Filter:
    """What an address asks for."""
    brands = tuple(dict.fromkeys(brand for brand in query.getall("brand", []) if 0 < len(brand) <= _MOST_TEXT))
    return Filter(
        brands=brands[:_MOST_BRANDS],
        quality=cast("Quality", _one_of(query.get("quality", ""), get_args(Quality))),
        level=_number(query.get("level", ""), lambda level: 1 <= level <= 5, 1),  # noqa: PLR2004
        release=_number(query.get("release", ""), lambda release: release >= 0, 0),
        within=_number(query.get("within", ""), TIMES.__contains__, 0),
        order=cast("Order", _one_of(query.get("order", ""), get_args(Order))),
        scope=cast("Scope", _one_of(query.get("scope", ""), get_args(Scope))),
        page=_number(query.get("page", ""), lambda page: page >= 1, 1),
        after=_cursor(query.get("after", "")),
    )


def _cursor(text: str) -> str:
    try:
        place_of(text)
    except ValueError:
        return ""
    return text


def _one_of(text: str, choices: tuple[str, ...]) -> str:
    return text if text in choices else choices[0]


def _number(text: str, fits: Callable[[int], bool], usual: int) -> int:
    """The number in a text, if it fits."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        return usual
    return int(text) if fits(int(text)) else usual
