"""Finds and removes what a run of the servers leaves on the machine.

A *run* is the lifetime of one guardian. Its name, `photo-tagger-<guardian pid>-<random>`, is the name of its temporary
folder, the prefix of its shared-memory segments, and a marker in the environment of each of its processes; so whatever
a run left can be found from any of the three. A run is alive while its guardian holds the lock in its folder: the
kernel releases the lock however the guardian ends, and a reused pid does not hold it.

Standard library only, and quick to import: the guardian imports this.
"""

import os
import re
import secrets
import shutil
import signal
import tempfile
from pathlib import Path

#: The environment variable that marks every process of a run with the run's name.
RUN_VARIABLE = "TAGGER_EMBEDDED_RUN"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (POSIX shared memory has this one place on Linux)
#: Triton's python backend makes one when it starts, whatever TMPDIR says, and forgets it: empty, since none of our
#: models brings an environment of its own.
_ENVIRONMENTS = ("/tmp", "python_env_*")  # noqa: S108 (the backend has this one place)
_RUN = re.compile(r"photo-tagger-(\d+)-[0-9a-f]{8}")
_LOCK_NAME = "lock"


def create_run_folder() -> tuple[Path, int]:
    """Makes this process's run folder.

    Returns:
        The folder, named as the run, and the descriptor that holds its lock; keep it open for as long as the run lives.
    """
    import fcntl  # noqa: PLC0415 (not on Windows, where importing this module must still work for the clear error)

    name = f"photo-tagger-{os.getpid()}-{secrets.token_hex(4)}"
    folder = Path(tempfile.gettempdir()) / name
    # It gets its real name only once it is locked, so that no sweep takes it for a dead run's.
    draft = folder.with_name(f".{name}")
    draft.mkdir(mode=0o700)
    lock = os.open(draft / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    draft.rename(folder)
    return folder, lock


def marked_pids(run: str) -> list[int]:
    """Finds the living processes of a run, by the marker in their environment."""
    return [pid for pid, name in _marked_processes() if name == run]


def remove_shared_memory(prefix: str) -> None:
    """Unlinks the shared-memory segments whose names start with the prefix."""
    for segment in SHARED_MEMORY.glob(f"{prefix}*"):
        segment.unlink(missing_ok=True)


def remove_environments(since_s: float) -> None:
    """Removes the empty folders of Triton's python backend that were made since a time (as `time.time`).

    They carry no name: one of another server of this user may be among them. It is not used, or it would not be empty.
    """
    place, pattern = _ENVIRONMENTS
    for folder in Path(place).glob(pattern):
        try:
            made = folder.stat()
            if made.st_uid == os.getuid() and made.st_mtime >= since_s:
                folder.rmdir()
        except OSError:
            continue  # in use, or gone meanwhile


def remove_run(folder: Path) -> None:
    """Kills what still runs of a run, then removes its segments and its folder."""
    run = folder.name
    began_s = _began_s(folder)
    for pid in marked_pids(run):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    remove_shared_memory(run)
    if began_s is not None:
        remove_environments(began_s)
    # Once more: a process that dies slowly may still create a file in a folder that is being emptied.
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break


def _began_s(folder: Path) -> float | None:
    """When a run began; None where its folder is gone."""
    try:
        return (folder / _LOCK_NAME).stat().st_mtime
    except OSError:
        return None


def sweep() -> list[str]:
    """Removes what dead runs left, and returns their names."""
    temp = Path(tempfile.gettempdir())
    entries = [*temp.iterdir(), *SHARED_MEMORY.iterdir()]
    found = {match.group() for entry in entries if (match := _RUN.match(entry.name))}
    found.update(name for _, name in _marked_processes())
    swept = []
    for run in sorted(found):
        folder = temp / run
        if not _is_alive(folder):
            remove_run(folder)
            swept.append(run)
    return swept


def _marked_processes() -> list[tuple[int, str]]:
    mark = f"{RUN_VARIABLE}=".encode()
    found: list[tuple[int, str]] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # gone meanwhile, or another user's
        runs = [variable.removeprefix(mark).decode() for variable in variables if variable.startswith(mark)]
        found.extend((int(process.name), run) for run in runs)
    return found


def _is_alive(folder: Path) -> bool:
    import fcntl  # noqa: PLC0415 (as above)

    try:
        lock = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return _is_guardian(folder.name)
    except PermissionError:
        return True  # another user's
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def _is_guardian(run: str) -> bool:
    """Whether the guardian of a run without a folder here (another TMPDIR, half removed) lives, by its pid."""
    match = _RUN.fullmatch(run)
    if match is None:
        return False
    try:
        return b"consumer.embedded.guardian" in Path("/proc", match.group(1), "cmdline").read_bytes()
    except OSError:
        return False
