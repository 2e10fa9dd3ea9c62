import io

import pytest
from rich.console import Console
from rich.table import Table

from training.cli.console import err, out
from training.progress import task


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a[/b].jpg", "a[/b].jpg"),
        ("[red]:smile:", "[red]:smile:"),
        ("\x1b]0;t\x07", r"\x1b]0;t\x07"),
        ("\x9b31m\u202e\U000e0001", r"\x9b31m\u202e\U000e0001"),
        ("caf\udce9\r", r"caf\udce9\r"),
        ("café", "café"),
    ],
)
def test_the_name_of_a_photo_drives_no_terminal(text: str, shown: str) -> None:
    for console in (out, err):
        table = Table(box=None, show_header=False)
        table.add_row(text)
        with console.capture() as said:
            console.print(text)
            console.print(table)
        assert [line.strip() for line in said.get().splitlines()] == [shown, shown]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_the_last_note_beside_the_count(terminal: bool) -> None:
    stream = io.StringIO()
    with task(Console(file=stream, force_terminal=terminal, width=160), "mine", 10) as done:
        done(4, "loss 0.5")
        done(6)
    shown = stream.getvalue().rpartition("mine")[2]
    assert "loss 0.5" in shown
    assert "10" in shown
