"""A study's page, self-contained HTML, and its summary in Markdown."""

import base64
import json
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from shlex import quote
from typing import Any

from jinja2 import Environment

from training.studies.study import Figure, Options, Result, Study, Table

_HEAD = ("figure", "published", "here", "95 % interval", "where it was published")


def write(study: Study, options: Options, result: Result) -> list[Path]:
    """Writes <name>.html, <name>.md and <name>.json into the options' folder; returns the files."""
    options.out.mkdir(parents=True, exist_ok=True)
    figures = {name: [figure.value, figure.low, figure.high] for name, figure in result.figures.items()}
    found = {
        "study": study.name, "data": at_hand(options, result), "as_published": options.as_published,
        "seed": options.seed, "figures": figures, "notes": list(result.notes),
    }  # fmt: skip
    texts = {
        ".html": html(study, options, result),
        ".md": markdown(study, options, result),
        ".json": json.dumps(found, indent=1) + "\n",
    }
    written = []
    for suffix, text in texts.items():
        written.append(options.out / f"{study.name}{suffix}")
        written[-1].write_text(text)
    return written


def command(study: Study, options: Options) -> str:
    """The command that makes the page, without the folders of this machine."""
    source = "--made" if options.made else "--data DIR"
    flags = [flag for flag, on in (("--as-published", options.as_published), ("--quick", options.quick)) if on]
    chosen = [f"--set {quote(f'{name}={json.dumps(_shown(value))}')}" for name, value in options.overrides.items()]
    chosen += [f"--weights {name}=FILE" for name in options.weights]
    chosen += ["--about TEXT"] if options.about else []
    return " ".join(("photo-trainer study", study.name, source, *flags, f"--seed {options.seed}", *chosen))


def _shown(value: Any) -> Any:  # noqa: ANN401 - a setting of any kind
    """A setting's value, without the name of a folder."""
    return "DIR" if isinstance(value, str) and Path(value).is_absolute() else value


def html(study: Study, options: Options, result: Result) -> str:
    """The page."""
    template = Environment(autoescape=True).from_string(files("training.studies").joinpath("page.html").read_text())
    return (
        template.render(
            study=study,
            result=result,
            at_hand=at_hand(options, result),
            tables=_tables(study, options, result),
            pictures={caption: base64.b64encode(body).decode() for caption, body in result.pictures.items()},
            command=command(study, options),
        )
        + "\n"
    )


def _tables(study: Study, options: Options, result: Result) -> dict[str, Table]:
    """By title: published figures beside ours, the mistakes, and the tables of the run."""
    mistakes = tuple((m.name, m.what, m.corrected) for m in study.mistakes)
    state = "reproduced in this run" if options.as_published else "corrected in this run"
    return {
        "Published, and measured here": Table(_HEAD, tuple(beside(study, result))),
        f"Known mistakes, {state}": Table(("mistake", "what the study did", "what is done instead"), mistakes),
        **result.tables,
    }


def at_hand(options: Options, result: Result) -> str:
    """The user's description of the data, then the study's."""
    return f"{options.about.strip()} {result.data}".strip()


def beside(study: Study, result: Result) -> list[tuple[str, ...]]:
    """Published figures with ours of the same name, then ours without a published one."""
    rows: list[tuple[str, ...]] = []
    for published in study.published:
        ours = result.figures.get(published.figure)
        value = number(published.value) if isinstance(published.value, float) else str(published.value)
        rows.append((published.figure, value, *_ours(ours), published.source))
    named = {published.figure for published in study.published}
    rows += [(name, "-", *_ours(figure), "") for name, figure in result.figures.items() if name not in named]
    return rows


def number(value: float) -> str:
    """Three decimals, or none for whole and for large numbers."""
    return f"{value:,.0f}" if abs(value) >= 100 or (float(value).is_integer() and abs(value) > 1) else f"{value:.3f}"


def _ours(figure: Figure | None) -> tuple[str, str]:
    if figure is None:
        return "not measured", ""
    if figure.low is None or figure.high is None:
        return number(figure.value), ""
    return number(figure.value), f"{number(figure.low)} to {number(figure.high)}"


def markdown(study: Study, options: Options, result: Result) -> str:
    """The summary: everything but the pictures, which are on the page."""
    parts = [
        f"# {study.title}",
        study.origin,
        f"**Data at hand.** {at_hand(options, result)}",
        f"**The study's own data.** {study.data}",
        f"Plots are on the page [{study.name}.html]({study.name}.html). Written by `{command(study, options)}`.",
    ]
    for title, table in _tables(study, options, result).items():
        parts += [f"## {title}", table_text(table.header, table.rows)]
    if result.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in result.notes)]
    parts += ["## What we would do today", "\n".join(f"- {line}" for line in study.today)]
    return "\n\n".join(parts) + "\n"


def table_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
