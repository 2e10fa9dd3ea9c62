"""`photo-tagger doctor`: whether everything that the service needs is there and as it should be, and what to do."""

import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final

import typer

from consumer import settings
from consumer.cli.asking import answers
from consumer.cli.console import Exit, echo_json, explained, out

if TYPE_CHECKING:
    from consumer.doctor.findings import Finding

app = typer.Typer()

_STYLES: Final = {"ok": "green", "warning": "yellow", "failure": "red"}


@app.command()
@answers
def doctor(
    wait_s: Annotated[float, typer.Option("--wait-s", help="seconds within which it ends", min=1, max=600)] = 15.0,
    *,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="show also what is as it should be")] = False,
) -> None:
    """Look whether Kafka, Redis, Triton and this machine fit the service, and say what to do. Nothing is written.

    Exit code 1 if something fails, 5 if a server does not answer. What this user may do is asked of Kafka; Redis is
    called so that nothing changes.
    """
    from consumer.doctor.examination import examine  # noqa: PLC0415 - `--help` must not load the clients

    plain = not out.is_terminal
    with explained():
        findings = examine(settings.load(), wait_s, echo_json if plain else lambda each: _show(each, verbose=verbose))
    if not plain:
        counts = Counter[str](each.verdict for each in findings)
        out.print(", ".join(f"{counts[verdict]} {verdict}" for verdict in _STYLES))
    sys.stdout.flush()
    # Threads may be left behind within calls of clients, which the end of the interpreter would wait for.
    os._exit(_code(findings))


def _show(each: "Finding", *, verbose: bool) -> None:
    if each.verdict == "ok" and not verbose:
        return
    out.print(f"{each.verdict:8}{each.part}: {each.about}: {each.detail}", style=_STYLES[each.verdict])
    if each.advice:
        out.print(f"        {each.advice}")


def _code(findings: "list[Finding]") -> Exit:
    if any(each.silent for each in findings):
        return Exit.DEPENDENCY
    return Exit.FAILED if any(each.verdict == "failure" for each in findings) else Exit.OK
