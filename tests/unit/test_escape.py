import io
import json
import unicodedata

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from consumer.cli.console import PlainConsole
from consumer.escape import json_printable, printable
from consumer.telemetry import configure_logging

#: A title, the clipboard, a colour, C1, a bidirectional override, a line separator, half of a pair, markup, an emoji.
EVIL = "a\x1b]0;owned\x07\x1b]52;c;cm0=\x07\x1b[31m\x9b2J\u202egpj\u2028b\ud800[/b][bold]c[/bold]:smile:\r\nd\x7f\u200b"


def harmless(text: str) -> bool:
    """Whether a terminal shows every character of a text in its place."""
    return all(unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in text)


@given(st.text())
def test_what_is_printable_is_kept_and_everything_else_escaped(text: str) -> None:
    shown = printable(text)
    assert harmless(shown)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


def test_escapes_say_which_character_it_was() -> None:
    assert printable("\x1b\x9b\u202e\U000e0001ok [/b]") == "\\x1b\\x9b\\u202e\\U000e0001ok [/b]"
    assert printable("a\nb", keep="\n") == "a\nb"


@given(st.dictionaries(st.text(), st.text()))
def test_printable_json_means_the_same(value: dict[str, str]) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        shown = json_printable(text)
        assert harmless(shown)
        assert json.loads(shown) == value


@pytest.fixture
def reset_logging() -> object:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("form", ["console", "json"])
# The last is no Unicode, and the whole has what libraries escape by themselves: each has to be harmless alone.
@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b31m", "a\u202eb", "a\u2028b", "\ud800", EVIL], ids=ascii)
@pytest.mark.usefixtures("reset_logging")
def test_foreign_text_in_a_log_line_drives_no_terminal_and_stays_one_line(form: str, text: str) -> None:
    stream = io.StringIO()
    log = configure_logging("info", form, stream)  # type: ignore[arg-type]
    log.warning(
        "dead_letter.published",
        photo_id=text,
        detail=text,
        headers=[text],
        more={text: b"\x1b"},
    )
    assert harmless(stream.getvalue().removesuffix("\n"))
    try:
        int(text)
    except ValueError:
        log.exception("photo.failed", photo_id=text)
    assert harmless(stream.getvalue().replace("\n", ""))


def test_a_console_takes_no_text_for_markup_or_a_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = PlainConsole()
    table = Table("photo", title=EVIL)
    table.add_row(EVIL)
    console.print(table)
    console.print(EVIL, style="red")
    said = capsys.readouterr().out
    assert harmless(said.replace("\n", ""))
    assert said.count("[bold]c[/bold]:smile:") >= 2  # the title is folded
