"""`photo-tagger web`: the pages for people with a browser."""

import asyncio
from typing import Annotated

import typer

from consumer import settings
from consumer.cli.console import explained, job_log, leaving_hung_threads, out

app = typer.Typer()


@app.command()
@leaving_hung_threads()
def web(
    host: Annotated[str | None, typer.Option(help="address to bind; web.host (127.0.0.1) by default")] = None,
    port: Annotated[
        int | None, typer.Option(help="port to bind, 0 for a free one; web.port (8080) by default", min=0, max=65_535)
    ] = None,
    *,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="dead letters can be sent again; web.allow_changes")
    ] = False,
    open_to_network: Annotated[
        bool, typer.Option("--open-to-network", help="bind an address that others reach; web.open_to_network")
    ] = False,
) -> None:
    """Serve web pages until Ctrl-C: photos, dead letters, runs, how the service does. They ask nobody who they are."""
    from consumer.webserver.server import serve_until_stopped  # noqa: PLC0415 - `--help` must not load Kafka

    with explained():
        loaded = settings.load()
        given = {"host": host, "port": port, "allow_changes": allow_changes, "open_to_network": open_to_network}
        changed = {name: value for name, value in given.items() if value is not None and value is not False}
        loaded = loaded.model_copy(update={"web": loaded.web.model_copy(update=changed)})
        asyncio.run(serve_until_stopped(loaded, job_log(loaded), out.print))
