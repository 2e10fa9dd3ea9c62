import json

import pytest
import typer
from rich.console import ConsoleDimensions
from rich.table import Table

from consumer import events
from consumer.cli import dlq
from consumer.cli.console import Exit, PlainConsole, columns, echo_json, err, explained, out, pairs
from consumer.errors import SettingsError
from consumer.operations.admin import send_event
from consumer.settings import Settings
from tests.fakes import MOMENT

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


def test_a_name_that_is_not_unicode_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    for indent in (False, True):
        echo_json({"file": "caf\udce9\x1b.jpg", "width": 3}, indent=indent)
        assert json.loads(said := capsys.readouterr().out) == {"file": "caf\udce9\x1b.jpg", "width": 3}
        assert said.isascii()


@pytest.mark.parametrize("odd", ["caf\udce9.jpg", 2**64])
def test_a_time_beside_what_orjson_does_not_take_is_printed_as_orjson_prints_it(
    odd: object, capsys: pytest.CaptureFixture[str]
) -> None:
    echo_json({"at": MOMENT})
    usual = json.loads(capsys.readouterr().out)
    echo_json({"odd": odd, "at": MOMENT})
    assert json.loads(capsys.readouterr().out) == {"odd": odd, **usual}


DEEP = b"[" * 300 + b"1" + b"]" * 300


@pytest.mark.parametrize(
    "value", [b"[[1]]", b"[" * 252 + b"]" * 252, b"", None, b"\xff", b"[" * 254 + b"]" * 254, DEEP]
)
def test_any_payload_of_a_dead_letter_can_be_shown(value: bytes | None, capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({"payload": dlq._payload(value)})
    shown = json.loads(capsys.readouterr().out)["payload"]
    assert shown in {None, (value or b"").decode(errors="backslashreplace")} if not isinstance(shown, list) else shown


def test_an_event_that_is_no_text_is_refused_before_it_is_sent() -> None:
    for event in (events.PhotoUploaded("caf\udce9", "x", MOMENT), events.PhotoUploaded("x", "caf\udce9", MOMENT)):
        with pytest.raises(SettingsError, match="UTF-8"):
            send_event(Settings(), event)


def test_a_setting_that_proves_wrong_later_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_KAFKA__EXTRA__A.B", "c")
    with err.capture() as said, pytest.raises(typer.Exit) as ended, explained():
        raise SettingsError("no such property", setting="kafka.extra.a.b")
    assert ended.value.exit_code == Exit.SETTINGS
    assert said.get() == "photo-tagger: kafka.extra.a.b (from TAGGER_KAFKA__EXTRA__A.B): no such property\n"
    with err.capture() as said, pytest.raises(typer.Exit), explained():
        raise SettingsError("soon is no time", setting="--from")
    assert said.get() == "photo-tagger: --from: soon is no time\n"


def test_an_error_of_several_lines_is_shown_in_as_many() -> None:
    with err.capture() as said, pytest.raises(typer.Exit) as ended, explained():
        raise SettingsError("settings are wrong:\n  kafka.x\x1b: y")
    assert ended.value.exit_code == Exit.SETTINGS
    assert said.get() == "photo-tagger: settings are wrong:\n  kafka.x\\x1b: y\n"


@pytest.mark.parametrize("width", [40, 80])
def test_what_names_a_row_is_whole_and_the_rest_goes_on_below(width: int) -> None:
    console = PlainConsole()
    console.size = ConsoleDimensions(width, 24)
    names, long = "photo-uploads.dead/17", "a-word-that-is-longer-than-any-column-of-this-table-may-be-" * 2
    table = columns("id", "detail", "more")
    table.add_row(names, long, long)
    with console.capture() as said:
        console.print(table)
    shown = said.get()
    assert names in shown
    assert "\u2026" not in shown
    assert all(len(line.rstrip()) <= width for line in shown.splitlines())
    found = pairs([("photo", long)])
    with console.capture() as said:
        console.print(found)
    assert "".join(said.get().split()) == f"photo{long}"


@pytest.mark.parametrize("names", [1, 2])
@pytest.mark.parametrize("length", [30, 41, 170])
def test_a_row_is_whole_however_long_its_name_is(names: int, length: int) -> None:
    console = PlainConsole()
    console.size = ConsoleDimensions(80, 24)
    table = columns("photo", "id", "detail", names=names)
    table.add_row("n" * length, "0/1", "x" * 40)
    with console.capture() as said:
        console.print(table)
    _, *lines = said.get().splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert ["".join(lines).count(letter) for letter in "n/x"] == [length, 1, 40]
    assert (len(lines) == 1) == (length == 30)
