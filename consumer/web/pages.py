"""What the pages have in common: templates that escape, styles and scripts as text, hashes for the content policy."""

import base64
import hashlib
from pathlib import Path
from typing import Final

import jinja2
from markupsafe import Markup

from consumer.escape import printable
from consumer.web.reasons import in_words

_FOLDER: Final = Path(__file__).parent
#: Names of the levels 1 to 5; none is "good", which is a separate decision.
LEVELS: Final = ("unusable", "weak", "fair", "fine", "excellent")
#: Characters of a text on a page.
_MAX_TEXT: Final = 300
#: The filling of a chip has so many steps: a style of its own for each photo is not allowed.
_STEP_PERCENT: Final = 5


def environment(*folders: Path) -> jinja2.Environment:
    """The templates of this package and of further folders; whatever they show is escaped, but for assets."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([_FOLDER, *folders]),
        autoescape=True,
        finalize=visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"in_words": in_words, "milliseconds": _milliseconds, "percent": percent, "step": _step}
    made.globals["levels"] = LEVELS
    return made


def visible(value: object) -> object:
    """What a template shows, with escapes for characters that are not visible, and cut if it is long.

    A text that has to stay as it is, as the value of a field, goes through the filter `e`.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return printable(value if len(value) <= _MAX_TEXT else value[:_MAX_TEXT] + "…")


def percent(share: float) -> str:
    """A share 0..1 in whole percent, never 100 for less than all."""
    return f"{min(round(share * 100), 99) if share < 1 else 100}"


def _step(share: float) -> int:
    """A share 0..1 in percent, in steps of 5: the style `s-85`."""
    return round(share * 100 / _STEP_PERCENT) * _STEP_PERCENT


def asset(name: str) -> Markup:
    """A file of this package, not data: the only text on a page that is not escaped."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))  # noqa: S704


def _milliseconds(value_ms: float) -> str:
    """A duration as a person reads it: `85 ms`, `1.2 s`."""
    return f"{value_ms:.0f} ms" if value_ms < 1000 else f"{value_ms / 1000:.1f} s"  # noqa: PLR2004 (ms per s)


def policy_hash(text: str) -> str:
    """The hash of a script or style as a content policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
