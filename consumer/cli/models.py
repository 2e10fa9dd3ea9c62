"""`photo-tagger models`: the versions of the models, from their loading to their retirement, and the releases."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from consumer import events, settings
from consumer.cli.asking import asks
from consumer.cli.console import Exit, columns, echo_json, err, explained, out
from consumer.errors import DependencyDown
from consumer.escape import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.operations.models import Listed
    from consumer.operations.promotion import Change, Use, Wish
    from consumer.operations.verification import Verification
    from consumer.releases import ModelVersion, Numbered
    from consumer.settings import Settings

app = typer.Typer(
    help="Change models: load a version beside the old one, verify it, promote it, go back, retire.",
    no_args_is_help=True,
)

#: A version of tags has three digits for it.
_MOST: Final = 999
#: Characters of a reason in a release.
_LONGEST: Final = 1000


def _reason(text: str) -> str:
    """A reason as it stands in a release."""
    shown = printable(text.strip())
    if not 0 < len(shown) <= _LONGEST:
        raise typer.BadParameter(f"say why, in at most {_LONGEST} characters")
    return shown


Name = Annotated[str, typer.Argument(metavar="NAME", help="model as Triton names it")]
Version = Annotated[int, typer.Argument(metavar="VERSION", help="its version", min=1, max=_MOST)]
Reason = Annotated[str, typer.Option(help="why, for the history", callback=_reason)]
Promoted = Annotated[str | None, typer.Option(metavar="VERSION", help="version, or NAME/VERSION of another model")]
Threshold = Annotated[float | None, typer.Option(min=0, max=1, help="by default the one that the version came with")]


@app.command(name="list")
@asks
def list_() -> None:
    """List the versions in the repository and in Triton, with the release that uses each; JSON lines in a pipe."""
    from consumer.operations import models, promotion  # noqa: PLC0415 - `--help` must not load Triton's client

    with explained():
        loaded = settings.load()
        listed = asyncio.run(models.list_versions(loaded))
        try:
            used = promotion.uses(asyncio.run(promotion.read_log(loaded)))
        except DependencyDown as unread:
            err.print(f"releases are not known: {unread}", style="yellow")
            used = {}
    rows = [_row(each, used) for each in listed]
    if not out.is_terminal:
        for row in rows:
            echo_json(row)
        return
    table = columns("model", "version", "in Triton", "release", "published", "figures", "size", names=2)
    for row in rows:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in (row["figures"] or {}).items())
        size = "" if row["bytes"] is None else f"{row['bytes'] / 1e6:.1f} MB"
        release = "" if row["release"] is None else f"{row['used']} ({row['release']})"
        state = f"{row['state']}: {row['reason']}" if row["reason"] else row["state"]
        table.add_row(row["model"], str(row["version"]), state, release, row["published_at"] or "", figures, size)
    out.print(table)


@app.command()
@asks
def load(name: Name, version: Version) -> None:
    """Load a version beside those that are loaded, which go on serving. Exit code 1 if Triton cannot load it."""
    from consumer.operations import models  # noqa: PLC0415 - as in `list_`

    with explained():
        serving = asyncio.run(models.load(settings.load(), name, version))
    _tell_loaded(name, serving)
    if out.is_terminal:
        out.print(f"Verify it with: photo-tagger models verify {name} {version}")


@app.command()
@asks
def verify(name: Name, version: Version) -> None:
    """Compare a loaded version's answers to its golden photos, and its files. Exit code 1 if one differs.

    Of each output the value that is farthest from what was published is shown, over all rounds.
    """
    from consumer.operations import models  # noqa: PLC0415 - as in `list_`

    with explained():
        found = asyncio.run(models.verify(settings.load(), name, version))
    _tell_verified(found)
    if not found.passed:
        raise typer.Exit(Exit.FAILED)


@app.command()
@asks
def promote(
    reason: Reason,
    quality: Promoted = None,
    brand: Promoted = None,
    good_threshold: Threshold = None,
    brand_threshold: Threshold = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="although a version is not as it was published")] = False,
) -> None:
    """Verify versions and put them, or other thresholds, in force. Exit code 8 if the verification refuses it.

    All workers follow within seconds; a photo in work ends under what it began with.
    """
    from consumer.operations import promotion  # noqa: PLC0415 - as in `list_`

    with explained():
        loaded = settings.load()
        wish = wish_of(loaded, quality, brand, good_threshold, brand_threshold)
        change = asyncio.run(promotion.promote(loaded, wish, reason, forced=force))
    for found in change.verifications:
        _tell_verified(found)
    _tell_change(change)


@app.command()
@asks
def rollback(
    reason: Reason,
    to: Annotated[
        int | None, typer.Option(help="number of the release to go back to; the one before by default")
    ] = None,
) -> None:
    """Put in force again what an earlier release decided, as a new release."""
    from consumer.operations import promotion  # noqa: PLC0415 - as in `list_`

    with explained():
        change = asyncio.run(promotion.rollback(settings.load(), reason, to))
    _tell_change(change)


@app.command()
@asks
def retire(name: Name, version: Version) -> None:
    """Unload a version. Exit code 8 if the release in force uses it, or the one before."""
    from consumer.operations import promotion  # noqa: PLC0415 - as in `list_`

    with explained():
        loaded = settings.load()
        serving = asyncio.run(promotion.retire(loaded, name, version))
    _tell_loaded(name, serving)


@app.command()
@asks
def releases() -> None:
    """List the releases that came into force, oldest first; JSON lines in a pipe."""
    from consumer.operations import promotion  # noqa: PLC0415 - as in `list_`
    from consumer.releases import in_force  # noqa: PLC0415 - as in `list_`

    with explained():
        loaded = settings.load()
        chain = in_force(asyncio.run(promotion.read_log(loaded)))
    if not chain:
        told = f"no releases in {loaded.kafka.releases_topic}: the service makes the first one when it starts"
        err.print(told, style="yellow")
    if not out.is_terminal:
        for each in chain:
            echo_json(_release(each))
        return
    table = columns("release", "time", "quality", "brand", "good from", "brand from", "by", "reason", "run")
    for each in chain:
        now = each.release
        judges = (str(now.quality), str(now.brand))
        thresholds = (f"{now.decision.good_threshold:g}", f"{now.decision.brand_threshold:g}")
        when = events.format_time(now.at)
        table.add_row(str(each.number), when, *judges, *thresholds, now.by, now.reason, now.run or "")
    out.print(table)


def wish_of(
    loaded: "Settings",
    quality: str | None,
    brand: str | None,
    good_threshold: float | None,
    brand_threshold: float | None,
) -> "Wish":
    """What the options `--quality`, `--brand` and the thresholds ask for."""
    from consumer.operations.promotion import Wish  # noqa: PLC0415 - as in `list_`

    triton = loaded.triton
    return Wish(
        _named(quality, triton.quality_model, "--quality"),
        _named(brand, triton.brand_model, "--brand"),
        good_threshold,
        brand_threshold,
    )


def _named(text: str | None, default: str, option: str) -> "ModelVersion | None":
    """`3` or `NAME/3`."""
    from consumer.releases import ModelVersion  # noqa: PLC0415 - as in `list_`

    if text is None:
        return None
    name, _, version = text.rpartition("/")
    if not (version.isascii() and version.isdecimal() and 0 < int(version[:4]) <= _MOST):
        raise typer.BadParameter(f"a version is 1 to {_MOST}, not {version!r}", param_hint=option)
    return ModelVersion(name or default, str(int(version)))


def _row(each: "Listed", used: "Mapping[ModelVersion, Use]") -> dict[str, Any]:
    from consumer.releases import ModelVersion  # noqa: PLC0415 - as in `list_`

    use = used.get(ModelVersion(each.model, str(each.version)))
    return {
        **asdict(each),
        "used": None if use is None else use.role,
        "release": None if use is None else use.number,
    }


def _release(each: "Numbered") -> dict[str, Any]:
    now = each.release
    return {
        "release": each.number,
        "at": now.at,
        "quality": asdict(now.quality),
        "brand": asdict(now.brand),
        **asdict(now.decision),
        "by": now.by,
        "reason": now.reason,
        "run": now.run,
    }


def _tell_loaded(name: str, serving: list[int]) -> None:
    if out.is_terminal:
        out.print(f"loaded of {name}: {', '.join(map(str, serving))}")
    else:
        echo_json({"model": name, "loaded": serving})


def _tell_verified(found: "Verification") -> None:
    if not out.is_terminal:
        for each in found.comparisons:
            echo_json({"model": found.model, "version": found.version, **asdict(each)})
        summary = {name: value for name, value in asdict(found).items() if name != "comparisons"}
        echo_json({**summary, "passed": found.passed})
        return
    table = columns("photo", "output", "expected", "got", "difference", "", names=2)
    for each in found.comparisons:
        got = "" if each.got is None else f"{each.got:.6f}"
        difference = "" if each.difference is None else f"{each.difference:.1e}"
        verdict = "" if each.within else each.problem or "differs"
        table.add_row(each.photo, f"{each.output}[{each.index}]", f"{each.expected:.6f}", got, difference, verdict)
    out.print(table)
    out.print(f"{found.model} {found.version}: {found.summary}", style="green" if found.passed else "red")
    out.print(f"served from {found.file}, tolerance {found.tolerance:g}")
    if found.p50_ms is not None:
        out.print(f"{found.requests} requests, p50 {found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f} ms")


def _tell_change(change: "Change") -> None:
    if out.is_terminal:
        words = "release" if change.appended else "release in force stays"
        out.print(f"{words} {change.release.number}: {change.changed}")
    else:
        echo_json({**_release(change.release), "appended": change.appended, "changed": change.changed})
