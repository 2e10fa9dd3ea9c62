"""The command line where a script, a closed pipe or an odd terminal calls it: it ends, and says why in one line."""

import fcntl
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.harness_process import ROOT
from tests.harness_process import photo_tagger as called

SETTINGS, FAILED, INTERRUPTED = 3, 1, 130
COMMAND = [sys.executable, "-m", "consumer.cli"]
BARE = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}


def in_shell(line: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A line of a shell, in which `tagger` is the command."""
    script = f'tagger() {{ {" ".join(COMMAND)} "$@"; }}; set -o pipefail; {line}'
    return subprocess.run(
        ["bash", "-c", script], env={**BARE, **env}, cwd="/", capture_output=True, text=True, check=False, timeout=60
    )


def in_terminal(columns: int, *arguments: str, **env: str) -> tuple[int, str]:
    """Runs a command in a terminal of this width; its exit code and what the terminal got."""
    pid, handle = pty.fork()
    if pid == 0:
        size = struct.pack("HHHH", 24, columns, 0, 0)
        fcntl.ioctl(1, termios.TIOCSWINSZ, size)
        os.execve(sys.executable, [*COMMAND, *arguments], {**BARE, "TERM": "xterm-256color", **env})
    said = b""
    while True:
        try:
            said += (chunk := os.read(handle, 65_536))
        except OSError:
            break
        if not chunk:
            break
    os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()


@pytest.mark.parametrize("line", ["tagger config | head -1", "tagger config --json | true", "tagger --help | head -1"])
def test_a_reader_that_has_enough_is_no_error_to_be_told(line: str) -> None:
    ended = in_shell(line)
    assert ended.stderr == ""
    assert ended.returncode in {0, FAILED}


def test_a_host_without_home_locale_or_terminal_gets_the_same_answers() -> None:
    expected = in_shell("tagger sizing --photos-per-s 100 --json").stdout
    assert expected.startswith("{")
    odd = {"LANG": "C", "LC_ALL": "C", "TERM": "dumb", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "COLUMNS": "40"}
    ended = in_shell("tagger sizing --photos-per-s 100 --json < /dev/null", **odd)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, expected, "")
    closed = in_shell("tagger sizing --photos-per-s 100 --json <&-")
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, expected, "")
    # A text that this encoding lacks is shown by its code.
    ended = in_shell("tagger status 'caf\u00e9' nope", **odd)
    assert (ended.returncode, ended.stderr.count("\n")) == (SETTINGS, 1)


@pytest.mark.parametrize("columns", [40, 80])
def test_what_names_a_row_is_whole_at_any_width(columns: int) -> None:
    code, said = in_terminal(columns, "config")
    assert code == 0
    assert "\u2026" not in said
    starts = {line.split()[0] for line in said.splitlines() if line.strip()}
    assert {"kafka.bootstrap_servers", "hosts.startup_failure_threshold", "prepare.max_decode_cpu_s"} <= starts


def test_json_is_what_a_terminal_gets_that_asks_for_it() -> None:
    code, said = in_terminal(80, "config", "--json")
    assert (code, said[0]) == (0, "{")


def test_ctrl_c_ends_a_command_that_waits_without_a_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        env = {**BARE, "TAGGER_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{deaf.getsockname()[1]}"}
        process = subprocess.Popen(
            [*COMMAND, "lag", "--wait-s", "60"],
            env=env,
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        assert "waiting 60 s: kafka: " in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (INTERRUPTED, "", "")


def test_a_command_tries_for_as_long_as_it_is_told_and_then_ends(tmp_path: Path) -> None:
    env = {**BARE, "TAGGER_REDIS__URL": f"unix://{tmp_path}/none"}
    ended = called("sweep", "--wait-s", "1.5", env=env, cwd=Path("/"))
    assert (ended.returncode, ended.stdout) == (5, "")
    waits, told = ended.stderr.splitlines()
    assert waits.startswith("waiting 1.5 s: redis: ")
    assert told.startswith("photo-tagger: redis: ")


@pytest.mark.parametrize(
    "arguments", [("\x1b]0;t\x07",), ("status", "a", "\x9b31m"), ("dlq", "list", "--reason", "\x1b[2J")]
)
def test_a_hostile_argument_drives_no_terminal(arguments: tuple[str, ...]) -> None:
    code, said = in_terminal(80, *arguments)
    assert code == SETTINGS
    shown = said.replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert not any(bad in shown for bad in ("\x1b", "\x07", "\x9b"))
