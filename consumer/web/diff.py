"""The report of a run: one self-contained HTML page of what its candidate changes, and the same numbers as JSON.

Ids, URIs, brand names and details are untrusted: the template engine escapes them, and characters that are not visible
are shown as escapes. The page has no script and loads nothing: its pictures are data URIs, and its content security
policy allows only those and the style whose hash it contains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson
from markupsafe import Markup

from consumer.runs.report import Report
from consumer.tags import Brand
from consumer.web import charts, pages, thumbnails
from consumer.web.pages import LEVELS

#: Only so many brands have a row on the page; the JSON has all.
_MAX_BRANDS: Final = 50
_SMALLEST_SHARE: Final = 0.0001
#: Smaller shares are shown with three significant digits, larger ones with one decimal.
_FEW: Final = 0.1
_LARGEST: Final = {
    "quality_up": ("Quality rises most", "by how far the score rises"),
    "quality_down": ("Quality falls most", "by how far the score falls"),
    "brands_gained": ("Brands gained", "by how far the probability of a brand that is gained rises"),
    "brands_lost": ("Brands lost", "by how far the probability of a brand that is lost falls"),
}
_GATES: Final = {
    "min_photos": "photos that are compared, at least",
    "max_level_jumps": "photos whose level changes by 2 or more, at most",
    "max_brands_lost": "photos with brands that lose all of them, at most",
    "max_mean_shift": "mean change of the score, up or down, at most",
    "max_not_judged": "photos that could not be judged, at most",
}


@dataclass(frozen=True, slots=True)
class _Chip:
    """A brand of a photo: kept, gained or lost."""

    style: str
    sign: str
    brand: str
    probability: float


def write(report: Report, pictures: Mapping[str, bytes | str], page: Path) -> Path:
    """Writes the page of `render` and, beside it, the report as JSON, whose path it returns; makes their folder.

    Raises:
        OSError: nothing can be written there.
    """
    numbers = page.with_suffix(".json")
    page.parent.mkdir(parents=True, exist_ok=True)
    numbers.write_bytes(as_json(report))
    page.write_text(render(report, pictures), encoding="utf-8")
    return numbers


def as_json(report: Report) -> bytes:
    """The report as JSON: UTF-8, the fields of `Report` as keys, times as RFC 3339, absent values as null."""
    return orjson.dumps(report, option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def render(report: Report, pictures: Mapping[str, bytes | str]) -> str:
    """The page; `pictures` has for each photo id its thumbnail, a JPEG, or why there is none."""
    environment = pages.environment()
    environment.filters |= {
        "number": "{:,}".format,
        "percent": _percent,
        "signed": "{:+.3f}".format,
        "score": "{:.3f}".format,
        "when": _when,
    }
    quality = report.quality
    return environment.get_template("diff.html").render(
        report=report,
        style=_style(),
        policy=policy(),
        level_names={str(level): name for level, name in enumerate(LEVELS, 1)},
        largest=_LARGEST,
        gates=_GATES,
        charts=charts,
        chips=_chips,
        directions=_directions(report),
        brands=report.brands[:_MAX_BRANDS],
        most_bar=max((*quality.histogram_before, *quality.histogram_after)),
        most_brand=max((max(row.gained, row.lost) for row in report.brands), default=0),
        picture=lambda photo_id: _picture(pictures.get(photo_id, "its picture was not fetched")),
    )


def policy() -> str:
    """The content security policy of the page."""
    style = pages.policy_hash(_style())
    return f"default-src 'none'; img-src data:; style-src '{style}'; base-uri 'none'; form-action 'none'"


def _style() -> Markup:
    return pages.asset("base.css") + pages.asset("diff.css")


def _picture(picture: bytes | str) -> tuple[str, str]:
    """The URI of a picture, empty if there is none; and why there is none."""
    # Base64 needs no escapes, and is not cut.
    return (Markup(thumbnails.data_uri(picture)), "") if isinstance(picture, bytes) else ("", picture)  # noqa: S704


def _chips(before: tuple[Brand, ...], after: tuple[Brand, ...]) -> list[_Chip]:
    """The brands of a photo after, and those that it has no more."""
    had, has = {brand.brand for brand in before}, {brand.brand for brand in after}
    kept = [_Chip("kept", "", brand.brand, brand.probability) for brand in after if brand.brand in had]
    gained = [_Chip("gained", "+", brand.brand, brand.probability) for brand in after if brand.brand not in had]
    lost = [_Chip("lost", "−", brand.brand, brand.probability) for brand in before if brand.brand not in has]  # noqa: RUF001
    return [*gained, *lost, *kept]


def _directions(report: Report) -> list[tuple[str, list[tuple[str, str, int]]]]:
    """For each part of the tags, the photos that get less, the same and more of it: style, words and count."""
    changes, agreement = report.changes, report.agreement
    both = changes.gains_brands.count + changes.loses_brands.count + agreement.brands.count - report.photos.compared
    return [
        (
            "Level",
            [
                ("down", "lower", changes.lower_level.count),
                ("same", "the same", agreement.level.count),
                ("up", "higher", changes.higher_level.count),
            ],
        ),
        (
            "Good",
            [
                ("down", "no longer good", changes.no_longer_good.count),
                ("same", "the same", agreement.good.count),
                ("up", "becomes good", changes.becomes_good.count),
            ],
        ),
        (
            "Brands",
            [
                ("down", "loses brands", changes.loses_brands.count - both),
                ("other", "other brands", both),
                ("same", "the same", agreement.brands.count),
                ("up", "gains brands", changes.gains_brands.count - both),
            ],
        ),
    ]


def _percent(share: float | None) -> str:
    """A share 0..1 in percent; neither 0 for some nor 100 for less than all."""
    if share is None:
        return "none"
    if 0 < share < _SMALLEST_SHARE:
        return "< 0.01 %"
    if 1 - _SMALLEST_SHARE < share < 1:
        return "> 99.99 %"
    return f"{share * 100:.3g} %" if share < _FEW or share == 1 else f"{share * 100:.1f} %"


def _when(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%d %B %Y, %H:%M UTC")
