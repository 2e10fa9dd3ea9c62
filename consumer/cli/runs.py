"""`photo-tagger runs`: what a candidate would say of chosen photos, compared, promoted and taken back."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consumer import settings
from consumer.cli.asking import asks
from consumer.cli.console import (
    Exit,
    columns,
    echo_json,
    err,
    explained,
    job_log,
    leaving_hung_threads,
    out,
    progress_bar,
)
from consumer.cli.models import Promoted, Reason, Threshold, wish_of
from consumer.cli.run_options import (
    Brands,
    DryRun,
    Id,
    Ids,
    Levels,
    Name,
    Offsets,
    Rate,
    Since,
    Until,
    offsets_of,
    range_of,
    selection_of,
    telling,
)
from consumer.errors import SettingsError

if TYPE_CHECKING:
    from consumer.operations.promotion import Wish
    from consumer.operations.run_release import Applied
    from consumer.operations.runs import Plan
    from consumer.runs.definition import Run
    from consumer.settings import Settings

app = typer.Typer(
    help="Rescore photos under other models or thresholds, see what changes, promote it or not, go back.",
    no_args_is_help=True,
)


@app.command()
@asks
def start(
    *,
    reason: Reason,
    quality: Promoted = None,
    brand: Promoted = None,
    good_threshold: Threshold = None,
    brand_threshold: Threshold = None,
    since: Since = None,
    until: Until = None,
    offsets: Offsets = None,
    ids: Ids = None,
    brands: Brands = None,
    levels: Levels = None,
    rate: Rate = None,
    name: Name = None,
    letters: Annotated[bool, typer.Option("--dead-letters", help="the dead letters in place of the uploads")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="go on with new uploads until it is cancelled")] = False,
    dry_run: DryRun = False,
) -> None:
    """Begin a run over uploads; `runs work` then judges them under other versions or thresholds. Changes no tag."""
    from consumer.operations.runs import Plan  # noqa: PLC0415 - `--help` must not load Kafka's client

    with explained():
        plan = Plan(
            "rescore",
            *range_of(since, until),
            offsets_of(offsets),
            selection_of(ids, brands, levels),
            letters=letters,
            follow=follow,
            rate=rate,
        )
        loaded = settings.load()
        wish = wish_of(loaded, quality, brand, good_threshold, brand_threshold)
        _start(loaded, plan, wish, reason, name, dry_run=dry_run)


@app.command()
@asks
def retag(
    *,
    reason: Reason,
    good_threshold: Threshold = None,
    brand_threshold: Threshold = None,
    since: Since = None,
    until: Until = None,
    ids: Ids = None,
    brands: Brands = None,
    levels: Levels = None,
    name: Name = None,
    dry_run: DryRun = False,
) -> None:
    """Begin a run for other thresholds alone, over the results in force: no photo is fetched, nothing inferred."""
    from consumer.operations.runs import Plan  # noqa: PLC0415 - as in `start`

    with explained():
        plan = Plan("retag", *range_of(since, until), None, selection_of(ids, brands, levels))
        loaded = settings.load()
        wish = wish_of(loaded, None, None, good_threshold, brand_threshold)
        _start(loaded, plan, wish, reason, name, dry_run=dry_run)


@app.command(name="list")
@asks
def list_(
    *,
    ended: Annotated[bool, typer.Option("--ended", help="ended replays, too: those of the last week")] = False,
) -> None:
    """List the runs, but for replays that have ended; JSON lines in a pipe."""
    from consumer.operations import run_log  # noqa: PLC0415 - as in `start`

    with explained():
        loaded = settings.load()
        found = run_log.read_all(loaded.kafka).values()
    runs = [run for run in found if ended or not run.is_ended_replay]
    if not found:
        err.print(f"no runs in {loaded.kafka.runs_topic}; begin one: photo-tagger runs start --help", style="yellow")
    if len(runs) < len(found):
        err.print(f"replays that have ended: {len(found) - len(runs)}; with them: --ended")
    if not out.is_terminal:
        for run in runs:
            echo_json(_row(run))
        return
    if not runs:
        return
    table = columns("run", "state", "kind", "candidate", "over", "by", "why")
    for run in runs:
        row = _row(run)
        table.add_row(*(str(row[key]) for key in ("run", "state", "kind", "candidate", "over", "by", "reason")))
    out.print(table)


@app.command()
@asks
def show(run_id: Id) -> None:
    """Show one run: what it is over, how far it is, and what became of it."""
    from consumer.operations import run_log  # noqa: PLC0415 - as in `start`

    with explained():
        loaded = settings.load()
        run = run_log.read(loaded.kafka, run_id)
        done = run_log.done(loaded.kafka, run)
        judged, not_judged = run_log.count(loaded.kafka, run)
    row = {**_row(run), "done": done, "total": run.total, "judged": judged, "not_judged": not_judged}
    row["history"] = list(run.history)
    if not out.is_terminal:
        echo_json(row)
        return
    for key, value in row.items():
        lines = value if isinstance(value, list) else [value]
        for line in lines:
            out.print(f"{key:14}{line}")


@app.command()
@asks
@leaving_hung_threads()
def work(run_id: Id) -> None:
    """Judge the photos of a run until none is left; any number of hosts may work on one. Exit code 1 if stopped."""
    from consumer.operations import run_log, run_work  # noqa: PLC0415 - as in `start`
    from consumer.operations.background import in_background  # noqa: PLC0415 - as in `start`

    with explained():
        loaded = settings.load()
        run = run_log.read(loaded.kafka, run_id)
        loaded = in_background(loaded)
        with telling() as told:
            worked = asyncio.run(run_work.work(loaded, job_log(loaded), run, told))
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(worked.outcomes.items()) if count)
    if out.is_terminal:
        state = "is complete" if worked.complete else f"is {worked.run.state} and not complete"
        out.print(f"run {run_id} {state}; here: {outcomes or 'nothing'}")
        if worked.complete:
            out.print(f"what would change: photo-tagger runs diff {run_id}")
    else:
        echo_json({"run": run_id, "complete": worked.complete, "outcomes": worked.outcomes})
    if not worked.complete:
        raise typer.Exit(Exit.FAILED)


@app.command()
@asks
def pause(run_id: Id) -> None:
    """Let the workers of a run wait."""
    _move(run_id, "pause")


@app.command()
@asks
def resume(run_id: Id) -> None:
    """Let the workers of a run go on."""
    _move(run_id, "resume")


@app.command()
@asks
def cancel(run_id: Id) -> None:
    """End a run; its answers stay until it is deleted."""
    _move(run_id, "cancel")


@app.command()
@asks
def diff(
    run_id: Id,
    output: Annotated[Path, typer.Option(help="folder for RUN.html and RUN.json")] = Path("runs"),
) -> None:
    """Write what a run would change: one page with the photos that change most, and the same numbers as JSON."""
    from consumer.operations.run_diff import diff as compare  # noqa: PLC0415 - as in `start`
    from consumer.web import diff as page  # noqa: PLC0415 - as in `start`
    from consumer.web.thumbnails import jpeg  # noqa: PLC0415 - as in `start`

    with explained():
        found = asyncio.run(compare(settings.load(), run_id, jpeg))
        html = output / f"{run_id}.html"
        try:
            numbers = page.write(found.report, found.pictures, html)
        except OSError as error:
            raise SettingsError(f"cannot write to {output}: {error.strerror}", setting="--output") from None
    report = found.report
    if not out.is_terminal:
        echo_json({"run": run_id, "page": str(html), "report": str(numbers), "gates_hold": report.gates.hold})
        return
    share = report.changes.any
    out.print(f"{share.count} of {share.of} photos change; the page: {html}")
    for violation in report.gates.violations:
        out.print(f"gate: {violation}", style="yellow")
    if report.gates.hold:
        out.print(f"its gates hold: photo-tagger runs promote {run_id} --reason ...")


@app.command()
@asks
@leaving_hung_threads()
def promote(
    run_id: Id,
    reason: Reason,
    *,
    force: Annotated[bool, typer.Option("--force", help="although its gates do not hold")] = False,
) -> None:
    """Put the candidate of a run into force, and its answers into the tags. Exit code 8 if its gates do not hold."""
    from consumer.operations.run_release import promote as put_in_force  # noqa: PLC0415 - as in `start`

    with explained():
        loaded = settings.load()
        with progress_bar("applying") as progress:
            applied = asyncio.run(put_in_force(loaded, job_log(loaded), run_id, reason, progress, forced=force))
    _print_applied(applied, "promoted as")


@app.command()
@asks
@leaving_hung_threads()
def rollback(run_id: Id, reason: Reason) -> None:
    """Put back into force what was before a run, under a newer release, with the tags of then."""
    from consumer.operations.run_release import rollback as take_back  # noqa: PLC0415 - as in `start`

    with explained():
        loaded = settings.load()
        with progress_bar("taking back") as progress:
            applied = asyncio.run(take_back(loaded, job_log(loaded), run_id, reason, progress))
    _print_applied(applied, "rolled back by")


@app.command()
@asks
def delete(run_id: Id) -> None:
    """Delete a run, its answers and its positions; what was applied of it stays."""
    from consumer.operations import runs  # noqa: PLC0415 - as in `start`

    with explained():
        runs.delete(settings.load(), run_id)
    if not out.is_terminal:
        echo_json({"run": run_id, "state": "deleted"})
    else:
        out.print(f"run {run_id} is deleted")


def _start(loaded: "Settings", plan: "Plan", wish: "Wish", reason: str, name: str | None, *, dry_run: bool) -> None:
    from consumer.operations import runs  # noqa: PLC0415 - as in `start`
    from consumer.runs.definition import ID_FORM, is_run_id  # noqa: PLC0415 - as in `start`

    if name is not None and not is_run_id(name):
        raise SettingsError(f"{name!r} is no id of a run: {ID_FORM}", setting="--name")
    run = asyncio.run(runs.prepare(loaded, wish, plan, reason, name))
    photos = _photos(loaded, run) if dry_run and not run.follows else None
    if not dry_run:
        runs.start(loaded, run)
    most = run.total if photos is None else photos
    row = {**_row(run), "total": run.total, "photos": photos, "seconds": most / run.rate if run.rate else None}
    if not out.is_terminal:
        echo_json(row)
        return
    seconds = f", {most / run.rate:.0f} s for one worker at {run.rate:g} photos/s" if run.rate and most else ""
    counted = f"{run.total} records" + ("" if photos is None else f" with {photos} photos that are meant")
    count = "follows the topic" if run.follows else f"is over {counted}{seconds}"
    out.print(f"run {run.run_id} {'would be ' if dry_run else ''}of {row['candidate']}; it {count}")
    if not dry_run:
        out.print(f"work on it: photo-tagger runs work {run.run_id}")


def _photos(loaded: "Settings", run: "Run") -> int:
    from consumer.operations import run_count  # noqa: PLC0415 - as in `start`

    with progress_bar("counting") as progress:
        return asyncio.run(run_count.photos(loaded, run, progress))


def _move(run_id: str, action: str) -> None:
    from consumer.operations import runs  # noqa: PLC0415 - as in `start`

    with explained():
        run = runs.move(settings.load(), run_id, action)
    if not out.is_terminal:
        echo_json({"run": run_id, "state": run.state})
    else:
        out.print(f"run {run_id} is {run.state}")


def _row(run: "Run") -> dict[str, Any]:
    from consumer.operations.run_diff import photos_of  # noqa: PLC0415 - as in `start`
    from consumer.releases import differences  # noqa: PLC0415 - as in `start`

    return {
        "run": run.run_id,
        "state": run.state,
        "kind": run.kind,
        "candidate": differences(run.base, run.candidate) or "what is in force",
        "compared_with": run.base_number,
        "over": photos_of(run),
        "by": run.by,
        "at": run.at,
        "reason": run.reason,
        "promoted": run.promoted,
        "rolled_back": run.rolled_back,
    }


def _print_applied(applied: "Applied", how: str) -> None:
    if not out.is_terminal:
        counts = ("release", "written", "unchanged", "superseded", "left", "refused")
        row = {name: getattr(applied, name) for name in counts}
        echo_json({"run": applied.run.run_id, **row, "closing": applied.closing})
    else:
        out.print(f"run {applied.run.run_id} is {how} release {applied.release}")
        out.print(f"{applied.written} tags written, {applied.unchanged} were so, {applied.superseded} have newer ones")
        if applied.left:
            out.print(f"{applied.left} photos had no tags to write")
        out.print(f"{sum(applied.closing.outcomes.values())} photos that came meanwhile were judged again")
    if applied.refused or not applied.closing.complete:
        raise typer.Exit(Exit.FAILED)
