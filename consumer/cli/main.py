"""The command line `photo-tagger`: parses arguments, calls the service or an operation, prints the result."""

import asyncio
import os
import re
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from consumer import __version__, events, settings
from consumer.cli import check, dlq, doctor, look, models, read, redis, runs, size, web
from consumer.cli.asking import answers, asks
from consumer.cli.commands import Commands
from consumer.cli.console import (
    Exit,
    columns,
    echo_json,
    err,
    explained,
    job_log,
    leaving_hung_threads,
    out,
    patiently,
    progress_bar,
)
from consumer.cli.helps import add_helps
from consumer.cli.times import parse_time
from consumer.errors import DependencyDown, SettingsError
from consumer.service import worker

app = typer.Typer(
    name="photo-tagger",
    help="Tags uploaded photos with quality and brands: Kafka in, Triton, Redis and Kafka out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    cls=Commands,
    # Plain helps: typer's boxes cut the names of variables at 80 columns.
    rich_markup_mode=None,
    # Settings begin with TAGGER_, of which none that is unknown is taken: options have another prefix.
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "PHOTO_TAGGER"},
)
app.add_typer(dlq.app, name="dlq")
app.add_typer(models.app, name="models")
app.add_typer(runs.app, name="runs")
app.add_typer(redis.app)
app.add_typer(check.app)
app.add_typer(doctor.app)
app.add_typer(look.app)
app.add_typer(read.app)
app.add_typer(size.app)
app.add_typer(web.app)

#: A worker that ends with one of these is not restarted; the supervisor ends with the same code.
_FINAL: Final = frozenset({int(Exit.SETTINGS), int(Exit.CONTRACT)})

_STANDARD_ERROR: Final = 2


def _tell_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
@leaving_hung_threads()
def run(
    workers: Annotated[
        int | None, typer.Option(help="processes in one group; service.workers by default", min=1)
    ] = None,
) -> None:
    """Run the service until SIGTERM; every setting comes from the environment, tagger.toml or its default."""
    member = worker.join_supervisor()
    with explained():
        loaded = settings.load()
        count = workers or loaded.service.workers
        from consumer.telemetry import configure_logging  # noqa: PLC0415 - `--help` must not load what only `run` needs

        if count > 1:
            from consumer.service.supervisor import run_workers  # noqa: PLC0415 - as above

            log = configure_logging(loaded.log.level, loaded.log.format)
            raise typer.Exit(asyncio.run(run_workers(loaded, count, log, _FINAL)))
        from consumer.service.run import run_live  # noqa: PLC0415 - as above

        if member is None:
            asyncio.run(run_live(loaded, configure_logging(loaded.log.level, loaded.log.format)))
        else:
            log = configure_logging(loaded.log.level, loaded.log.format, worker=member.number)
            asyncio.run(run_live(loaded, log, member.report_port))


@app.command()
@answers
def config() -> None:
    """Print every setting with its value and where it comes from; secrets are masked. JSON lines in a pipe."""
    with explained():
        rows = settings.rows(settings.load())
    if not out.is_terminal:
        for row in rows:
            echo_json(row)
        return
    table = columns("setting", "value", "from", "meaning")
    for row in rows:
        table.add_row(row.name, row.value, row.origin, row.description)
    out.print(table)
    out.print()
    out.print(f"Set one in the environment ({settings.variable_of('kafka.group_id')}) or in tagger.toml.")


@app.command()
@asks
def topics(
    partitions: Annotated[int, typer.Option(help="partitions of the upload and result topics", min=1)] = 4,
    replication: Annotated[int, typer.Option(help="copies of each partition", min=1)] = 1,
    wait_s: Annotated[float, typer.Option(help="seconds to wait for a cluster that is not up yet", min=0)] = 30.0,
) -> None:
    """Create the topics that are missing; existing ones stay as they are, and those that lose records are named."""
    from consumer.operations.admin import create_topics_patiently, review_topics  # noqa: PLC0415 - as in `run`

    with explained():
        loaded = settings.load()
        waits = cache(lambda reason: err.print(f"waiting {wait_s:g} s for kafka: {reason}", style="yellow"))
        created = create_topics_patiently(loaded, partitions, replication, wait_s, waits)
    if out.is_terminal:
        out.print(f"created {', '.join(created)}" if created else "all topics exist")
    problems = None
    try:
        problems = review_topics(loaded)
    except DependencyDown as unread:
        err.print(f"their settings cannot be read: {unread.detail}")
    if not out.is_terminal:
        rows = None if problems is None else [{**asdict(each), "mend": each.mend} for each in problems]
        echo_json({"created": created, "problems": rows})
    for problem in problems or ():
        err.print(f"{problem.topic}: {problem.setting}={problem.value}: {problem.detail}", style="yellow")
        servers = loaded.kafka.bootstrap_servers
        err.print(f"  kafka-configs.sh --bootstrap-server {servers} {problem.mend}")


@app.command()
@asks
def send(
    uri: Annotated[str, typer.Argument(help="where the photo is: https://..., file:///...")],
    photo_id: Annotated[
        str | None, typer.Option("--id", help="photo id; the last part of the URI's path by default")
    ] = None,
    *,
    delete: Annotated[bool, typer.Option("--delete", help="send photo.deleted for this id instead")] = False,
) -> None:
    """Publish one photo.uploaded event, as the upload pipeline would."""
    from consumer.operations.admin import send_event  # noqa: PLC0415 - as in `run`

    name = photo_id or _name_in(uri)
    now = datetime.now(UTC)
    event = events.PhotoDeleted(name, now) if delete else events.PhotoUploaded(name, uri, now)
    with explained():
        place = send_event(settings.load(), event)
    if not out.is_terminal:
        echo_json({"photo_id": name, "record": place})
    else:
        out.print(f"{name} sent to {place}; read its tags with: photo-tagger tags {name}")


@app.command()
@asks
@leaving_hung_threads()
def replay(
    since: Annotated[str, typer.Option("--from", help="2026-11-21T10:00:00Z, 2h (ago) or beginning")],
    until: Annotated[str, typer.Option("--to", help="the same forms, or now")] = "now",
    name: Annotated[str | None, typer.Option(help="id of the run that it is; by default its time")] = None,
    wait_s: Annotated[
        float, typer.Option("--wait-s", "--wait", help="seconds to wait for Kafka and Triton to answer", min=0)
    ] = 30.0,
) -> None:
    """Tag the events of a time range again under the release in force; a run, which `runs work` goes on with."""
    from consumer.operations import replay as replaying  # noqa: PLC0415 - as in `run`
    from consumer.operations.background import in_background  # noqa: PLC0415 - as in `run`

    with explained():
        begin, end = parse_time(since, option="--from"), parse_time(until, option="--to")
        loaded = settings.load()
        start = partial(replaying.begin, loaded, begin, end, name)
        run = asyncio.run(patiently(start, wait_s))
        loaded = in_background(loaded)
        err.print(
            f"replay {run.run_id}; after an interruption, and on other hosts: photo-tagger runs work {run.run_id}"
        )
        with progress_bar("replaying") as progress:
            result = asyncio.run(replaying.resume(loaded, job_log(loaded), run, progress))
    if out.is_terminal:
        parts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(result.outcomes.items()) if count)
        out.print(f"replayed {sum(result.outcomes.values())} of {result.total} records: {parts or 'nothing in range'}")
    else:
        echo_json(result)
    if not result.complete:
        raise typer.Exit(Exit.FAILED)


@app.command()
@answers
def schemas(
    output: Annotated[Path, typer.Option(help="folder to write to")] = Path("docs/schemas"),
    *,
    register: Annotated[
        bool, typer.Option("--register", help="register those of events and results at registry.url instead")
    ] = False,
) -> None:
    """Write the JSON Schemas of the events, and the image formats that are read; or register with a schema registry."""
    from consumer.operations.registration import register as register_them  # noqa: PLC0415 - as in `run`
    from consumer.operations.schemas import write_schemas  # noqa: PLC0415 - as in `run`

    with explained():
        if register:
            for each in register_them(settings.load()):
                if out.is_terminal:
                    out.print(f"{each.subject}: {each.kind} is schema {each.number}, {each.outcome}")
                else:
                    echo_json(each)
            return
        try:
            paths = write_schemas(output)
        except OSError as error:
            raise SettingsError(f"cannot write to {output}: {error.strerror}", setting="--output") from None
    for path in paths:
        if out.is_terminal:
            out.print(str(path))
        else:
            echo_json({"path": str(path)})


@app.command()
@answers
@leaving_hung_threads()
def demo(
    photos: Annotated[Path | None, typer.Option(help="a folder of your own photos")] = None,
    output: Annotated[Path, typer.Option(help="where the gallery and the logs go")] = Path("demo-output"),
    own_models: Annotated[
        Path | None, typer.Option("--models", help="another model repository, as training publishes it")
    ] = None,
    kafka: Annotated[
        Literal["auto", "real", "mock"], typer.Option(help="auto: the real one if Java and Maven are installed")
    ] = "auto",
    *,
    keep: Annotated[bool, typer.Option("--keep", help="keep everything running until Ctrl-C")] = False,
) -> None:
    """Tag sample photos end to end on embedded servers, and write a gallery.

    With `--json`, what it reports meanwhile is on standard error, and its outcome on standard output.
    """
    from consumer.demo.run import run_demo  # noqa: PLC0415 - as in `run`

    with explained():
        raise typer.Exit(run_demo(photos, output, kafka=kafka, models=own_models, keep=keep, as_json=out.as_json))


@app.command()
@answers
def version() -> None:
    """Print the version, in a pipe too; as JSON only with `--json`."""
    if out.as_json:
        echo_json({"version": __version__})
    else:
        typer.echo(__version__)


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """Tags uploaded photos with quality and brands: Kafka in, Triton, Redis and Kafka out."""


app.command(name="retag")(runs.retag)
add_helps(app)


def _name_in(uri: str) -> str:
    """The last part of a URI's path. A query may be a signature, and is not one of a photo's name."""
    path = uri if uri[:5].lower() == "file:" else re.split("[?#]", uri, maxsplit=1)[0]
    return path.rstrip("/").rsplit("/", 1)[-1]


def main() -> None:
    """The console script."""
    _hold_standard_descriptors()
    # gRPC reads it when it is imported; by default it writes failed handshakes beside the line that says what is wrong.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    app()


def _hold_standard_descriptors() -> None:
    """Opens those of standard input, output and error that are closed, on nothing.

    The next socket would get the number otherwise, and what a library writes to standard error would go to Redis.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - its parameter has no name
    os.close(descriptor)
