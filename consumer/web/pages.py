"""What the pages have in common: templates that escape, styles and scripts as text, hashes for the content policy."""

import base64
import hashlib
from pathlib import Path
from typing import Final

import jinja2
from markupsafe import Markup

from consumer.web.reasons import in_words

_FOLDER: Final = Path(__file__).parent


def environment() -> jinja2.Environment:
    """The templates of this package; whatever they show is escaped, but for assets."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"in_words": in_words, "milliseconds": _milliseconds}
    return made


def asset(name: str) -> Markup:
    """A file of this package, not data: the only text on a page that is not escaped."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))  # noqa: S704


def _milliseconds(value_ms: float) -> str:
    """A duration as a person reads it: `85 ms`, `1.2 s`."""
    return f"{value_ms:.0f} ms" if value_ms < 1000 else f"{value_ms / 1000:.1f} s"  # noqa: PLR2004 (ms per s)


def policy_hash(text: str) -> str:
    """The hash of a script or style as a content policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
