"""However the owner of the servers ends, no process, no shared memory and no temporary folder stay; the logs do."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumer.embedded import leftovers
from consumer.embedded.servers import Servers

_ROOT = Path(__file__).resolve().parents[2]
_CLEAN_WITHIN_S = 15.0
_OWNER = """\
import signal, sys
from pathlib import Path
from consumer.embedded.servers import start_stack

with start_stack(Path(sys.argv[1]), Path(sys.argv[2]), "real"):
    print("ready", flush=True)
    signal.pause()
"""


class Owner:
    """A process that owns a whole stack, in a session of its own like a program in a terminal."""

    def __init__(self, logs_dir: Path, repository: Path) -> None:
        self.logs_dir = logs_dir
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OWNER, str(logs_dir), str(repository)],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def await_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def guardian_pid(self) -> int | None:
        tail = f"\0consumer.embedded.guardian\0{self.process.pid}\0".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cmdline").read_bytes().endswith(tail):
                    return int(process.name)
            except OSError:
                continue
        return None

    def run(self) -> str | None:
        guardian = self.guardian_pid()
        folders = Path(tempfile.gettempdir()).glob(f"photo-tagger-{guardian}-*") if guardian else ()
        return next((folder.name for folder in folders), None)


@pytest.fixture
def owner(logs_dir: Path, tiny_repository: Path) -> Iterator[Owner]:
    started = Owner(logs_dir, tiny_repository)
    yield started
    started.process.kill()
    started.process.communicate()


def eventually(holds: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + _CLEAN_WITHIN_S
    while not holds():
        if time.monotonic() > deadline_s:
            return False
    return True


def segments(run: str) -> list[Path]:
    return list(leftovers.SHARED_MEMORY.glob(f"{run}*"))


def folder_of(run: str) -> Path:
    return Path(tempfile.gettempdir()) / run


def is_clean(run: str) -> bool:
    return not (leftovers.marked_pids(run) or segments(run) or folder_of(run).exists())


def started_run(owner: Owner) -> str:
    owner.await_ready()
    run = owner.run()
    assert run is not None
    assert eventually(lambda: len(leftovers.marked_pids(run)) == 5)  # Kafka, Redis, Triton and its two stubs
    assert segments(run)
    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_but_logs_stays_when_the_owner_ends_by(owner: Owner, number: signal.Signals) -> None:
    run = started_run(owner)
    guardian = owner.guardian_pid()

    os.killpg(owner.process.pid, number)  # as a terminal does: to the whole foreground group

    owner.process.wait(_CLEAN_WITHIN_S)
    assert eventually(lambda: is_clean(run))
    assert eventually(lambda: not Path(f"/proc/{guardian}").exists())
    assert {log.name for log in owner.logs_dir.iterdir()} == {"guardian.log", "kafka.log", "redis.log", "triton.log"}
    assert (owner.logs_dir / "kafka.log").stat().st_size > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_stays_when_the_owner_ends_while_the_servers_start_by(owner: Owner, number: signal.Signals) -> None:
    assert eventually(lambda: len(leftovers.marked_pids(owner.run() or "none")) >= 3)
    run = owner.run()
    assert run is not None

    os.killpg(owner.process.pid, number)

    owner.process.wait(_CLEAN_WITHIN_S)
    assert eventually(lambda: is_clean(run))


def test_a_forked_child_of_a_killed_owner_does_not_keep_the_servers(logs_dir: Path) -> None:
    forked = (
        "import os, signal, sys; from pathlib import Path; from consumer.embedded.servers import Servers\n"
        "servers = Servers(Path(sys.argv[1])); servers.start_redis()\n"
        "child = os.fork()\n"
        "if child: print(child, servers.folder.name, flush=True)\n"
        "signal.pause()\n"
    )
    argv = [sys.executable, "-c", forked, str(logs_dir)]
    with subprocess.Popen(argv, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child, run = process.stdout.readline().split()
        try:
            process.kill()
            assert eventually(lambda: is_clean(run))
            assert Path(f"/proc/{child}").exists()
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_the_servers_die_with_a_killed_guardian_and_the_next_run_sweeps(owner: Owner, tmp_path: Path) -> None:
    run = started_run(owner)
    guardian = owner.guardian_pid()
    assert guardian is not None
    servers = [pid for pid in leftovers.marked_pids(run) if parent_of(pid) == guardian]
    assert len(servers) == 3

    os.kill(guardian, signal.SIGKILL)
    owner.process.kill()
    owner.process.wait(_CLEAN_WITHIN_S)

    assert eventually(lambda: not set(servers) & set(leftovers.marked_pids(run)))
    assert folder_of(run).exists()
    with Servers(tmp_path / "next"):
        assert is_clean(run)
    assert run in (tmp_path / "next" / "guardian.log").read_text(encoding="utf-8")


def test_the_owner_cleans_up_after_a_killed_guardian(logs_dir: Path, tiny_repository: Path) -> None:
    with Servers(logs_dir) as servers:
        redis = servers.start_redis()
        servers.start_triton(tiny_repository)
        run = servers.folder.name
        os.kill(servers.guardian_pid, signal.SIGKILL)
        assert eventually(lambda: not redis.running)
    assert is_clean(run)


def parent_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:")))
