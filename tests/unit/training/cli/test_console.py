import pytest
from rich.table import Table

from training.cli.console import err, out


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
