"""The group of all commands: how a call ends that cannot be understood, and one whose reader went away."""

import os
import sys
from collections.abc import Sequence
from typing import Any, Final, cast

import typer
from typer.core import TyperGroup

from consumer.cli.console import Exit, err

#: What typer raises of a wrong call, and of anything else that it tells the user: it exports no name for them.
_WRONG_CALL, _TOLD = cast("tuple[type[Exception], type[Exception]]", typer.BadParameter.__mro__[1:3])
_NAME: Final = "photo-tagger"


class Commands(TyperGroup):
    """Ends a wrong call with one line and exit code 3, as wrong settings do; typer would draw a box."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,  # noqa: ARG002 - hints name the command that users type
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002, FBT001, FBT002 - as typer calls it
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002 - as above
        **extra: Any,  # noqa: ANN401 - as above
    ) -> Any:  # noqa: ANN401 - as above
        """Runs a command, and ends the process."""
        _speak_any_text()
        try:
            code = super().main(args, _NAME, complete_var, False, windows_expand_args, **extra)  # noqa: FBT003 - as above
            sys.stdout.flush()
        except _TOLD as wrong:
            code = _explained(wrong)
        except typer.Abort:
            err.print(f"{_NAME}: aborted", style="red")
            code = Exit.FAILED
        except BrokenPipeError:
            # Who reads the output has enough of it; what is left would be complained of at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = Exit.FAILED
        sys.exit(code if isinstance(code, int) else Exit.OK)


def _explained(wrong: Any) -> int:  # noqa: ANN401 - typer exports no name for it
    """One line on a wrong call. A call of nothing gets the help, which names all there is."""
    context = getattr(wrong, "ctx", None)
    path = context.command_path if context is not None else _NAME
    if type(wrong).__name__ == "NoArgsIsHelpError" and context is not None:
        typer.echo(context.get_help(), err=True)
    else:
        text = " ".join(wrong.format_message().split())
        hint = f" ({path} --help)" if isinstance(wrong, _WRONG_CALL) else ""
        err.print(f"{path}: {text}{hint}", style="red")
    return Exit.SETTINGS


def _speak_any_text() -> None:
    """Lets a text that the terminal's encoding lacks be shown by its code; a command must not end for it."""
    for stream in (sys.stdout, sys.stderr):
        encoding = (getattr(stream, "encoding", None) or "").lower().replace("-", "")
        if encoding != "utf8" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
