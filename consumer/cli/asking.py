"""What all commands share that ask a server: `--json`, and `--wait-s` for one that does not answer yet."""

import inspect
from collections.abc import Callable
from functools import wraps
from time import monotonic, sleep
from typing import Annotated, Any, Final, ParamSpec

import typer

from consumer.cli.console import err, out, patience
from consumer.errors import DependencyDown

P = ParamSpec("P")

AsJson = Annotated[bool, typer.Option("--json", help="JSON also on a terminal")]
WaitS = Annotated[
    float, typer.Option(help="seconds to try again for while a server does not answer; else one try", min=0, max=86_400)
]

_AGAIN_S: Final = 0.5


def asks(command: Callable[P, None]) -> Callable[..., None]:
    """Adds `--json` and `--wait-s` to a command, unless it has one of its own.

    While there is time, a command that ends because a server does not answer is begun again: give it only to one that
    may be. With `--json`, standard output is no terminal to it (`out.is_terminal`).
    """
    own = inspect.signature(command)
    added = {name: kind for name, kind in (("wait_s", WaitS), ("as_json", AsJson)) if name not in own.parameters}
    defaults: dict[str, float | bool] = {"wait_s": 0.0, "as_json": False}

    @wraps(command)
    def asking(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passes them on
        given = {name: options.pop(name, defaults[name]) for name in added}
        out.as_json = bool(given.get("as_json", options.get("as_json", False)))
        try:
            _patiently(lambda: command(*arguments, **options), float(given.get("wait_s", 0)))
        finally:
            out.as_json = False

    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=kind)
        for name, kind in added.items()
    ]
    asking.__annotations__ = {**command.__annotations__, **added}
    asking.__signature__ = own.replace(parameters=[*own.parameters.values(), *parameters])  # type: ignore[attr-defined]
    return asking


def _patiently(command: Callable[[], None], wait_s: float) -> None:
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
