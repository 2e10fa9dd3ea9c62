import pytest
import typer
from rich.table import Table

from consumer.cli.console import Exit, PlainConsole, err, explained, out
from consumer.errors import SettingsError

HOSTILE = {
    "[/b]": "[/b]",
    "[red]x": "[red]x",
    ":smile:": ":smile:",
    "a\nb": r"a\x0ab",
    "a\r\tb": r"a\x0d\x09b",
    "\x1b]0;t\x07": r"\x1b]0;t\x07",
    "\x9b31m": r"\x9b31m",
    "\u202e\u2028\ufeff": r"\u202e\u2028\ufeff",
    "\udcff": r"\udcff",
    "it is 3 of 5, http://x/": "it is 3 of 5, http://x/",
}


@pytest.mark.parametrize("console", [out, err])
@pytest.mark.parametrize("text", HOSTILE)
def test_a_foreign_text_is_one_line_and_drives_no_terminal(console: PlainConsole, text: str) -> None:
    table = Table("name", box=None, show_header=False)
    table.add_row(text)
    with console.capture() as said:
        console.print(text)
        console.print(text, style="yellow")
        console.print(table)
    assert [line.strip() for line in said.get().split("\n")] == [HOSTILE[text]] * 3 + [""]


def test_an_error_of_several_lines_is_shown_in_as_many() -> None:
    with err.capture() as said, pytest.raises(typer.Exit) as ended, explained():
        raise SettingsError("settings are wrong:\n  kafka.x\x1b: y")
    assert ended.value.exit_code == Exit.SETTINGS
    assert said.get() == "photo-tagger: settings are wrong:\n  kafka.x\\x1b: y\n"
