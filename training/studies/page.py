"""A study's page, self-contained HTML, and its summary in Markdown."""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from shlex import quote
from typing import Any

from jinja2 import Environment

from training.studies.study import Figure, Mistake, Options, Published, Result, Study, Table

_HEAD = ("figure", "published", "here", "95 % interval", "ours is", "what differs", "where it was published")
_CLAIMS = ("the article found", "found here", "")
_MISTAKES = ("what", "what the article did", "what is done instead")
_VERDICTS = {True: "agrees", False: "CONTRADICTS the article", None: "not tested here"}


def write(study: Study, options: Options, result: Result) -> list[Path]:
    """Writes <name>.html, <name>.md and <name>.json into the options' folder; returns the files."""
    options.out.mkdir(parents=True, exist_ok=True)
    figures = {name: [figure.value, figure.low, figure.high] for name, figure in result.figures.items()}
    found = {
        "study": study.name, "article": study.article.text, "data": at_hand(options, result),
        "as_published": options.as_published, "seed": options.seed, "figures": figures,
        "claims": [[claim.said, claim.here, claim.agrees] for claim in result.claims],
        "notes": list(_notes(options, result)), "command": command(study, options), "code_sha256": code_sha256(study),
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


def code_sha256(study: Study) -> str:
    """A hash of the code of a study and of what all studies share: a page with another is older than the code."""
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted((*folder.glob("*.*"), *(folder / study.name).glob("*.py"))):
        digest.update(f"{path.relative_to(folder)} ".encode() + path.read_bytes())
    return digest.hexdigest()


def command(study: Study, options: Options) -> str:
    """The command that makes the page, without the folders of this machine."""
    source = "--made" if options.made else "--data DIR"
    flags = [flag for flag, on in (("--as-published", options.as_published), ("--quick", options.quick)) if on]
    flags += [f"--pretrained {options.pretrained}"] if options.pretrained else []
    flags += [] if options.photos else ["--no-photos"]
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
            pictures={caption: base64.b64encode(body).decode() for caption, body in _shown_on(options, result).items()},
            notes=_notes(options, result),
            command=command(study, options),
        )
        + "\n"
    )


def _shown_on(options: Options, result: Result) -> dict[str, bytes]:
    """Pictures by caption; photos only where they may be shown."""
    return {**result.pictures, **(result.photos if options.photos else {})}


def _notes(options: Options, result: Result) -> tuple[str, ...]:
    if options.photos or not result.photos:
        return result.notes
    return (*result.notes, f"Made without photos (--no-photos), which would show: {'; '.join(result.photos)}.")


def _tables(study: Study, options: Options, result: Result) -> dict[str, Table]:
    """By title: published figures beside ours, the article's findings, its mistakes, and the tables of the run."""
    state = "reproduced in this run" if options.as_published else "corrected in this run"
    tables = {"Published, and measured here": Table(_HEAD, tuple(beside(study, options, result)))}
    if result.claims:
        claims = tuple((claim.said, claim.here, _VERDICTS[claim.agrees]) for claim in result.claims)
        tables["What the article found, and what this run found"] = Table(_CLAIMS, claims)
    tables[f"Known mistakes, {state}"] = _listed(study.mistakes)
    if study.left_open:
        read = "read plainly in this run" if options.as_published else "done carefully in this run"
        tables[f"What the article leaves open, {read}"] = _listed(study.left_open)
    return {**tables, **result.tables}


def _listed(mistakes: Iterable[Mistake]) -> Table:
    return Table(_MISTAKES, tuple((mistake.name, mistake.what, mistake.corrected) for mistake in mistakes))


def at_hand(options: Options, result: Result) -> str:
    """The user's description of the data, then the study's."""
    return f"{options.about.strip()} {result.data}".strip()


def beside(study: Study, options: Options, result: Result) -> list[tuple[str, ...]]:
    """Published figures with ours of the same name and what differs, then ours without a published one."""
    rows: list[tuple[str, ...]] = []
    for published in study.published:
        ours = result.figures.get(published.figure)
        value = number(published.value) if isinstance(published.value, float) else str(published.value)
        line = (_compared(published, ours), _differs(published, options, result), published.source)
        rows.append((published.figure, value, *_ours(ours), *line))
    named = {published.figure for published in study.published}
    rows += [(name, "-", *_ours(figure), "", "", "") for name, figure in result.figures.items() if name not in named]
    return rows


def _compared(published: Published, ours: Figure | None) -> str:
    """Where a published number lies: within our interval, or on which side of it; without one, of our figure."""
    if ours is None or not isinstance(published.value, float):
        return ""
    low, high = (ours.value if bound is None else bound for bound in (ours.low, ours.high))
    if number(published.value) == number(ours.value):
        return "equal"
    if low <= published.value <= high:
        return "equal" if low == high else "equal within its interval"
    return "lower" if published.value > high else "higher"


def _differs(published: Published, options: Options, result: Result) -> str:
    """What differs from the article, in one line: always, and in this run."""
    weights = {"package": "ImageNet weights of a package", "download": "the library's ImageNet weights"}
    used = weights.get(str(options.pretrained), "weights from a file" if options.weights else "no pretrained weights")
    default = f"{'drawings by code' if options.made else 'other photos'}; {used}"
    run = result.differs.get(published.figure, result.differs.get("", default))
    return "; ".join(text for text in (published.differs, run) if text)


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
        f"After {study.article.text}. {study.article.looked_up}",
        study.origin,
        f"**Data at hand.** {at_hand(options, result)}",
        f"**The study's own data.** {study.data}",
        f"Plots are on the page [{study.name}.html]({study.name}.html). Written by `{command(study, options)}`.",
    ]
    for title, table in _tables(study, options, result).items():
        parts += [f"## {title}", table_text(table.header, table.rows)]
    if notes := _notes(options, result):
        parts += ["## Notes", "\n".join(f"- {note}" for note in notes)]
    parts += ["## What we would do today", "\n".join(f"- {line}" for line in study.today)]
    return "\n\n".join(parts) + "\n"


def table_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
