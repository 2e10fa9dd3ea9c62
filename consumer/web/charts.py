"""Geometry of the charts that a page draws as SVG: numbers in, coordinates out. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

#: Shades of a table of counts beside none.
_SHADES: Final = 5


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar: its style, from where, and how wide."""

    style: str
    x: float
    width: float


def stacked(parts: Sequence[tuple[str, str, int]], width: float) -> list[Segment]:
    """The parts, each a style, words and a count, side by side over the whole width; none of nothing."""
    total, x, segments = sum(count for *_, count in parts), 0.0, []
    for style, _, count in parts:
        if count:
            segments.append(Segment(style, round(x, 2), round(count / total * width, 2)))
            x += count / total * width
    return segments


def outline(counts: Sequence[int], most: int, width: float, height: float) -> Markup:
    """The path of a histogram's outline, from the ground to the ground; `most` is as high as the chart."""
    step = width / len(counts)
    tops = [round(height - count / max(most, 1) * height, 2) for count in counts]
    steps = "".join(f"V{top:g}H{step * (place + 1):g}" for place, top in enumerate(tops))
    return Markup(f"M0 {height:g}{steps}V{height:g}")  # noqa: S704 - numbers alone


def from_middle(value: float, most: float, width: float) -> tuple[float, float]:
    """Start and width of a bar from the middle to the left of a negative value, to the right of a positive one."""
    length = min(abs(value) / most, 1.0) * width / 2 if most else 0.0
    return round(width / 2 - (length if value < 0 else 0.0), 2), round(length, 2)


def shade(count: int, of: int) -> int:
    """0 for none, 1 to 5 by the share of the row."""
    return 1 + min(int(count / of * _SHADES), _SHADES - 1) if count else 0
