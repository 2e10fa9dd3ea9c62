"""The gallery: tagged photos and dead letters in, one self-contained HTML page out.

Photo ids, brand names and details come from outside and are escaped by the template engine. The page loads nothing: its
pictures are data URIs, and its content policy lets nothing run but the script whose hash it carries. Without JavaScript
every photo is shown and only the filters are missing.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import jinja2
from markupsafe import Markup

from consumer.events import Brand, Quality
from consumer.web.reasons import in_words

#: Names of the levels 1 to 5; none of them is "good", which is a decision of its own.
LEVELS: Final = ("unusable", "weak", "fair", "fine", "excellent")
_FOLDER: Final = Path(__file__).parent
#: More brands than these get no button of their own.
_MAX_BRAND_BUTTONS: Final = 14


@dataclass(frozen=True, slots=True)
class TaggedPhoto:
    """A photo with its tags.

    Attributes:
        photo_id: As in the event.
        name: What a person calls it: its file name.
        quality: The decided quality.
        brands: The decided brands, most probable first.
        thumbnail: A data URI, None where the photo cannot be drawn.
    """

    photo_id: str
    name: str
    quality: Quality
    brands: tuple[Brand, ...]
    thumbnail: str | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A photo that was refused.

    Attributes:
        photo_id: As in the event.
        name: What a person calls it: its file name.
        reason: The reason's identifier, as in the header of the dead letter.
        detail: What exactly was wrong.
        thumbnail: A data URI of what can be drawn of it, None where that is nothing.
    """

    photo_id: str
    name: str
    reason: str
    detail: str
    thumbnail: str | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers above the photos.

    Attributes:
        photos_per_s: From the first event to the last outcome; None where nothing was measured.
        p50_ms: Median time from the event to its tags.
        p95_ms: 95th percentile of it.
        models: Every version that judged, by the model's name.
        notice: One line that the reader must know, such as which stand-in was used; may be empty.
        created_at: When the page was made.
    """

    photos_per_s: float | None
    p50_ms: float | None
    p95_ms: float | None
    models: Mapping[str, Sequence[str]]
    notice: str
    created_at: datetime


def render(photos: Sequence[TaggedPhoto], dead_letters: Sequence[DeadLetter], summary: Summary) -> str:
    """The page. Photos are shown best first, dead letters in the order given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"in_words": in_words, "percent": _percent, "milliseconds": _milliseconds}
    brands = _brands_of(photos)
    script = _asset("gallery.js")
    return environment.get_template("gallery.html").render(
        photos=sorted(photos, key=lambda photo: (-photo.quality.score, photo.name)),
        dead_letters=dead_letters,
        summary=summary,
        created_at=summary.created_at.astimezone(UTC).strftime("%d %B %Y, %H:%M UTC"),
        levels=LEVELS,
        brand_buttons=brands[:_MAX_BRAND_BUTTONS],
        brand_numbers={brand: number for number, (brand, _) in enumerate(brands)},
        good=sum(photo.quality.good for photo in photos),
        # Our own files, not data: the only text on the page that is not escaped.
        style=Markup(_asset("gallery.css")),  # noqa: S704
        script=Markup(script),  # noqa: S704
        script_hash=_policy_hash(script),
    )


def _brands_of(photos: Iterable[TaggedPhoto]) -> list[tuple[str, int]]:
    """Every brand with the number of its photos, most photos first."""
    counts = Counter(brand.brand for photo in photos for brand in photo.brands)
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _asset(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _policy_hash(script: str) -> str:
    """The script's hash as a content policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _percent(share: float) -> str:
    """A share 0..1 in whole percent, never 100 for less than all."""
    return f"{min(round(share * 100), 99) if share < 1 else 100}"


def _milliseconds(value_ms: float) -> str:
    """A duration as a person reads it: `85 ms`, `1.2 s`."""
    return f"{value_ms:.0f} ms" if value_ms < 1000 else f"{value_ms / 1000:.1f} s"  # noqa: PLR2004 (ms per s)
