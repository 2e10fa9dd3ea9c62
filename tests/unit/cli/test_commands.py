"""The rules that every command keeps: its help, `--json`, `--wait-s`, and one line where a call is wrong."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumer.cli.helps import HELPS, commands_of
from consumer.cli.main import app

SETTINGS = 3
COMMANDS = dict(commands_of(app))
#: They are servers, whose answers are not on standard output.
NO_JSON = {"run", "web"}
#: They ask no server, or one that an event names, or go on until they are stopped.
NO_WAIT = {"run", "web", "demo", "version", "schemas", "config", "sizing", "check"}
#: They read no settings.
NO_SETTINGS = {"demo", "version", "schemas", "sizing"}
EXAMPLES = [
    (path, shlex.split(example))
    for path, one in HELPS.items()
    if path in COMMANDS and path not in NO_SETTINGS
    for example in (each.partition(" | ")[0] for each in one.examples)
]


@pytest.fixture(autouse=True)
def keeps_its_cores() -> Iterator[None]:
    """A job makes room for others; these calls, in the tests' own process, must end before that."""
    before = os.sched_getscheduler(0)
    yield
    assert os.sched_getscheduler(0) == before


def called(*arguments: str, **env: str) -> tuple[int, str, str]:
    """The exit code of a call, and what it says on standard output and error."""
    ended = CliRunner().invoke(app, arguments, env=env, catch_exceptions=False)
    return ended.exit_code, ended.stdout, ended.stderr


def is_told(ended: tuple[int, str, str], said: str) -> None:
    code, out, err = ended
    assert (code, out) == (SETTINGS, ""), ended
    assert said in err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err


@pytest.mark.parametrize("width", ["40", "80"])
@pytest.mark.parametrize("path", COMMANDS)
def test_the_help_has_examples_exit_codes_and_the_variable_of_each_option(path: str, width: str) -> None:
    code, said, _ = called(*path.split(), "--help", COLUMNS=width, TERMINAL_WIDTH=width)
    assert code == 0
    assert "\n  Examples:\n" in said
    assert "Exit codes: 0 done" in said
    assert "…" not in said
    whole = "".join(said.split())
    for example in HELPS[path].examples:
        assert "photo-tagger" + "".join(example.split()) in whole
    listed = said.partition("Examples:")[0]
    options = [name for name in re.findall(r"^  (?:-\w, )?(--[\w-]+)", listed, re.MULTILINE) if name != "--help"]
    assert len(re.findall(f"PHOTO_TAGGER_{re.sub(r'[ -]', '_', path).upper()}_", whole)) == len(options), said


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_speaks_json_and_waits_for_servers(path: str) -> None:
    _, said, _ = called(*path.split(), "--help", COLUMNS="200", TERMINAL_WIDTH="200")
    assert ("--json" in said) == (path not in NO_JSON)
    assert ("--wait-s" in said) == (path not in NO_WAIT)


BROKEN = {
    "TAGGER_REDIS__URL": ("127.0.0.1:6379", "redis.url (from TAGGER_REDIS__URL): not redis://host:port/number"),
    "TAGGER_NOPE": ("1", "unknown setting TAGGER_NOPE in the environment"),
    "TAGGER_KAFKA__EXTRA": ("{", "TAGGER_KAFKA__EXTRA: it is no JSON"),
    "TAGGER_REDIS__URL_FILE": ("/", "TAGGER_REDIS__URL_FILE: cannot read /: Is a directory"),
    "TAGGER_CONFIG": ("/", "settings file /: "),
    "TAGGER_PREPARE__THREADS": ("0", "prepare.threads (from TAGGER_PREPARE__THREADS): "),
    "TAGGER_KAFKA__GROUP_ID": ("", "kafka.group_id (from TAGGER_KAFKA__GROUP_ID): "),
    "TAGGER_TRITON__URL": ("\x1b]0;t\x07/", "triton.url (from TAGGER_TRITON__URL): "),
}


@pytest.mark.parametrize(("path", "arguments"), EXAMPLES, ids=[" ".join(arguments) for _, arguments in EXAMPLES])
def test_wrong_settings_end_each_command_with_one_line(path: str, arguments: list[str]) -> None:
    if path == "runs start" and "--ids" in arguments:
        arguments = [each for each in arguments if each not in {"--ids", "ids.txt"}]
    for variable in ("TAGGER_REDIS__URL", "TAGGER_NOPE"):
        value, said = BROKEN[variable]
        is_told(called(*arguments, **{variable: value}), said)


@pytest.mark.parametrize("path", ["lag", "config", "runs list", "doctor"])
@pytest.mark.parametrize("variable", BROKEN)
def test_whatever_is_wrong_with_settings_is_told_in_one_line(path: str, variable: str) -> None:
    value, said = BROKEN[variable]
    is_told(called(*path.split(), **{variable: value}), said)


def test_two_wrong_settings_are_in_one_line() -> None:
    is_told(called("lag", TAGGER_REDIS__TIMEOUT_S="0", TAGGER_KAFKA__GROUP_ID=""), "; ")


@pytest.mark.parametrize("path", COMMANDS)
def test_an_option_that_no_command_has_is_named(path: str) -> None:
    is_told(called(*path.split(), "--nope"), f"photo-tagger {path}: No such option: --nope ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nope", "photo-tagger: No such command 'nope'. (photo-tagger --help)"),
        ("dlq nope", "photo-tagger dlq: No such command 'nope'."),
        ("status", "photo-tagger status: Missing argument 'photo_id'."),
        ("models promote", "photo-tagger models promote: Missing option '--reason'."),
        ("models promote --reason ' '", "say why, in at most 1000 characters"),
        ("models load brand_logo 0", "Invalid value for 'VERSION'"),
        ("models load brand_logo x", "Invalid value for 'VERSION'"),
        ("models promote --brand x --reason y", "a version is 1 to 999, not 'x'"),
        ("find x --min-quality 2", "Invalid value for '--min-quality'"),
        ("find x --limit 0", "Invalid value for '--limit'"),
        ("lag --wait-s -1", "Invalid value for '--wait-s'"),
        ("doctor --wait-s x", "Invalid value for '--wait-s'"),
        ("dlq list --since soon", "--since: 'soon' is not a time"),
        ("dlq list --reason nope", "--reason: unknown reason 'nope'"),
        ("dlq list --since 1h --until 2h", "--until: the range ends at "),
        ("replay --from soon", "--from: 'soon' is not a time"),
        ("replay --from 1h --to 2h", "--to: "),
        ("runs start --reason x --from 1h --to 2h", "--to: "),
        ("runs retag --reason x --from 1h --to 2h", "--to: "),
        ("runs start --reason x --offsets a", "--offsets: 'a' is not PARTITION:FIRST-LAST"),
        ("runs start --reason x --ids /", "--ids: cannot read /: "),
        ("runs start --reason x --ids /nope", "--ids: cannot read /nope: "),
        ("check /nope.jpg", "cannot read /nope.jpg: No such file or directory"),
        ("check /", "cannot read /: Is a directory"),
        ("sizing --photos-per-s x", "Invalid value for '--photos-per-s'"),
        ("sizing --photos-per-s -1", "the rate must be above 0"),
        ("sizing --photos-per-s inf", "numbers must be between 1e-06 and 1e+15"),
        ("sizing --photos-per-s 1e-320", "numbers must be between 1e-06 and 1e+15"),
        ("sizing --photos-per-s 1 --photos inf", "numbers must be between 1e-06 and 1e+15"),
        ("sizing --photos-per-s 1 --load 1e-320", "numbers must be between 1e-06 and 1e+15"),
        ("sizing --photos-per-s 1 --client-ms inf", "client_ms must be above 0 and at most 1e+15"),
        ("sizing --photos-per-s 1 --triton-ms nan", "triton_ms must be above 0 and at most 1e+15"),
        ("schemas --output /dev/null/x", "--output: cannot write to /dev/null/x: Not a directory"),
        ("demo --photos /nope", "--photos: "),
        ("demo --output /dev/null/x", "--output: "),
        ("status '\x1b]0;t\x07' '\x9b31m'", "Got unexpected extra argument"),
    ],
)
def test_a_call_that_cannot_be_understood_is_answered_with_one_line(line: str, said: str) -> None:
    ended = called(*shlex.split(line), TAGGER_TRITON__URL="127.0.0.1:1")
    is_told(ended, said)
    assert not any(bad in ended[2] for bad in ("\x1b", "\x07", "\x9b"))


def test_an_option_is_read_from_its_variable() -> None:
    is_told(called("lag", PHOTO_TAGGER_LAG_WAIT_S="-1"), "Invalid value for '--wait-s'")


def test_a_call_of_nothing_shows_all_commands() -> None:
    code, out, err = called()
    assert (code, out) == (SETTINGS, "")
    assert {line.split()[0] for line in err.splitlines() if re.match(r"  [a-z]+  ", line)} >= {"run", "doctor", "retag"}


def test_every_help_is_of_a_command_or_of_one_that_comes() -> None:
    assert COMMANDS.keys() <= HELPS.keys()
    assert HELPS.keys() - COMMANDS.keys() <= {"brands"}


def test_no_command_writes_where_it_was_not_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path, arguments in EXAMPLES:
        if path not in NO_SETTINGS:
            called(*arguments, TAGGER_NOPE="1")
    assert list(tmp_path.iterdir()) == []
