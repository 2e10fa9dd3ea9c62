"""What all commands share that ask a server: `--json`, and `--wait-s` for one that does not answer yet."""

import inspect
from collections.abc import Callable
from functools import wraps
from time import monotonic, sleep
from typing import Annotated, Any, Final, ParamSpec, TypeVar

import typer

from consumer.cli.console import err, out, patience
from consumer.errors import DependencyDown

P = ParamSpec("P")
T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="JSON also on a terminal")]
WaitS = Annotated[
    float, typer.Option(help="seconds to try again for while a server does not answer; else one try", min=0, max=86_400)
]

_AGAIN_S: Final = 0.5


def answers(command: Callable[P, None]) -> Callable[..., None]:
    """Adds `--json` to a command: with it, standard output is no terminal to it (`out.is_terminal`)."""

    def call(as_json: bool, command: Callable[[], None]) -> None:  # noqa: FBT001 - the value of the option
        out.as_json = as_json
        try:
            command()
        finally:
            out.as_json = False

    return _with_option(command, "as_json", AsJson, default=False, call=call)


def asks(command: Callable[P, None]) -> Callable[..., None]:
    """Adds `--json` to a command that asks a server, and `--wait-s`, unless it has one of its own.

    While there is time, a command that ends because a server does not answer is begun again: give it only to one that
    may be.
    """
    if "wait_s" in inspect.signature(command).parameters:
        return answers(command)
    return answers(_with_option(command, "wait_s", WaitS, default=0.0, call=_patiently))


def _with_option(
    command: Callable[P, None], name: str, kind: object, default: T, call: Callable[[T, Callable[[], None]], None]
) -> Callable[..., None]:
    """The command with one option more, whose value `call` gets, and the command to be called."""
    own = inspect.signature(command)

    @wraps(command)
    def changed(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passes them on
        value = options.pop(name, default)
        call(value, lambda: command(*arguments, **options))

    option = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
    changed.__annotations__ = {**command.__annotations__, name: kind}
    changed.__signature__ = own.replace(parameters=[*own.parameters.values(), option])  # type: ignore[attr-defined]
    return changed


def _patiently(wait_s: float, command: Callable[[], None]) -> None:
    """Runs a command, again and again for so long while a server does not answer; why is said once."""
    deadline_s, said = monotonic() + wait_s, False
    while True:
        try:
            with patience(left=monotonic() + _AGAIN_S < deadline_s):
                command()
        except DependencyDown as lost:
            if not said:
                err.print(f"waiting {wait_s:g} s: {lost}", style="yellow")
            said = True
            sleep(_AGAIN_S)
        else:
            return
