"""The gallery: one self-contained HTML page of tagged photos and dead letters.

Photo ids, brand names and details are untrusted and are escaped by the template engine. The page loads nothing: its
pictures are data URIs, and its content security policy allows only the style and the script whose hashes it contains.
Without JavaScript every photo is shown and only the filters are missing. `photo-tagger web` shows photos by the same
templates.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from consumer.events import Brand, Quality
from consumer.web import pages

#: Only so many brands get a button.
_MAX_BRAND_BUTTONS: Final = 14


@dataclass(frozen=True, slots=True)
class TaggedPhoto:
    """A photo with its tags: `name` is its file name, `thumbnail` a data URI, None if it cannot be drawn.

    On a server, `thumbnail` and `href`, its page, are addresses there, and `note` is a line of when and by whom.
    """

    photo_id: str
    name: str
    quality: Quality
    #: The most probable first.
    brands: tuple[Brand, ...]
    thumbnail: str | None
    href: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected photo: `reason` and `detail` as in its headers, the others as in `TaggedPhoto`."""

    photo_id: str
    name: str
    reason: str
    detail: str
    thumbnail: str | None
    href: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A link to another page: its address, relative to this one, what it says, and what stands before it."""

    href: str
    text: str
    before: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers above the photos; None if nothing was measured."""

    #: From the first event to the last outcome.
    photos_per_s: float | None
    #: Median and 95th percentile of the time from an event to its tags.
    p50_ms: float | None
    p95_ms: float | None
    #: Every version that scored a photo, by the model's name.
    models: Mapping[str, Sequence[str]]
    #: The number of every release that tags were decided under.
    releases: Sequence[int]
    #: One line for the reader, such as which substitute was used; may be empty.
    notice: str
    created_at: datetime
    #: To the page on what the last change of the models changed.
    change: Link | None = None


def render(photos: Sequence[TaggedPhoto], dead_letters: Sequence[DeadLetter], summary: Summary) -> str:
    """The page. Photos are shown best first, dead letters in the order given."""
    environment = pages.environment()
    brands = _brands_of(photos)
    style, script = pages.asset("base.css") + pages.asset("cards.css"), pages.asset("gallery.js")
    return environment.get_template("gallery.html").render(
        photos=sorted(photos, key=lambda photo: (-photo.quality.score, photo.name)),
        dead_letters=dead_letters,
        summary=summary,
        created_at=summary.created_at.astimezone(UTC).strftime("%d %B %Y, %H:%M UTC"),
        brand_buttons=brands[:_MAX_BRAND_BUTTONS],
        brand_numbers={brand: number for number, (brand, _) in enumerate(brands)},
        good=sum(photo.quality.good for photo in photos),
        style=style,
        style_hash=pages.policy_hash(style),
        script=script,
        script_hash=pages.policy_hash(script),
    )


def _brands_of(photos: Iterable[TaggedPhoto]) -> list[tuple[str, int]]:
    """Every brand with the number of its photos, most photos first."""
    counts = Counter(brand.brand for photo in photos for brand in photo.brands)
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
