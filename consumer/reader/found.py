"""What a search asks for and finds, and the cursors between its pages. Pure."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from consumer.redis.schema import brand_keys, bucket_names, quality_key
from consumer.tags import scores_of

#: Where a page ends, as the next one begins: the quality and id of a photo. Photos come in falling order of both.
Place = tuple[float, str]
_TOP: Final = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """A photo that a search found: its quality score 0..1 and level 1..5, all brands in it, and when it was tagged."""

    photo_id: str
    quality: float
    level: int
    brands: tuple[str, ...]
    tagged_at: datetime


class Page(list[Found]):
    """Photos, best first. `cursor` asks for those behind them; None where there are no more.

    A page may be shorter than its limit, even empty, and have a cursor: much was looked at that did not fit.
    """

    def __init__(self, photos: Iterable[Found] = (), cursor: str | None = None) -> None:
        super().__init__(photos)
        self.cursor = cursor


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for.

    `keys` are the sorted sets of the candidates, whose scores are at least `low`, and at most or below `high`.
    """

    keys: tuple[str, ...]
    brands: frozenset[str]
    low: float
    high: str
    level: int | None
    since: datetime | None
    limit: int
    after: Place | None

    @classmethod
    def of(
        cls,
        brands: str | Iterable[str] | None,
        min_quality: float,
        *,
        level: int | None,
        since: datetime | None,
        limit: int,
        cursor: str | None,
    ) -> Self:
        """The query that these arguments of `find` make.

        Raises:
            ValueError: one of them is none.
        """
        if limit < 1:
            raise ValueError("limit must be at least 1")
        if since is not None and since.utcoffset() is None:
            raise ValueError("since has no time zone")
        low, above = scores_of(level) if level is not None else (0.0, 2.0)
        names = None if brands is None else frozenset((brands,) if isinstance(brands, str) else brands)
        if names is not None and not names:
            raise ValueError("brands is empty; None asks for all good photos")
        return cls(
            keys=_keys_of(names),
            brands=names or frozenset(),
            low=max(low, min_quality),
            high=f"({above!r}" if above <= _TOP else repr(_TOP),
            level=level,
            # As the times in Redis, which are in whole seconds: else what was tagged later in that second is missed.
            since=since and since.astimezone(UTC).replace(microsecond=0),
            limit=limit,
            after=None if cursor is None else place_of(cursor),
        )


def _keys_of(names: frozenset[str] | None) -> tuple[str, ...]:
    if names is None:
        return tuple(map(quality_key, bucket_names()))
    return tuple(key for name in sorted(names) if is_text(name) for key in brand_keys(name))


def is_text(text: str) -> bool:
    """Whether UTF-8 can hold it, and so Redis: with the escapes of other bytes it cannot."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def cursor_of(place: Place) -> str:
    """The cursor that continues behind a photo."""
    quality, photo_id = place
    return urlsafe_b64encode(f"{quality!r} {photo_id}".encode()).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    """The place that a cursor names.

    Raises:
        ValueError: it is no cursor.
    """
    try:
        quality, _, photo_id = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(" ")
        place = (float(quality), photo_id)
    except ValueError:
        place = (2.0, "")
    if not (0 <= place[0] <= _TOP and place[1]):
        raise ValueError(f"{cursor!r:.60} is no cursor of find")
    return place
