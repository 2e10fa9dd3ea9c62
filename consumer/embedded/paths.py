"""Folders and ports of the embedded servers: where their binaries are, and where downloads and logs are kept."""

import hashlib
import os
import random
import shutil
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from consumer.embedded.process import EmbeddedServerError

SERVERS_ENV_VARIABLE = "TAGGER_SERVERS_ENV"
CACHE_VARIABLE = "TAGGER_CACHE_DIR"
_KEPT_LOG_FOLDERS = 5
_PACKAGE = Path(__file__).resolve().parent


def repository_root() -> Path | None:
    """Returns the folder of pyproject.toml; None for an installed package."""
    root = _PACKAGE.parents[1]
    return root if (root / "pyproject.toml").is_file() else None


def model_repository() -> Path:
    """Returns the Triton model repository: the checkout's, else the one in the wheel."""
    root = repository_root()
    return root / "triton_models" if root else _PACKAGE / "triton_models"


def servers_requirements() -> Path:
    """Returns the requirements file of the servers' environment: the checkout's, else the one in the wheel."""
    root = repository_root()
    return root / "requirements" / "servers.txt" if root else _PACKAGE / "servers.txt"


def cache_folder() -> Path:
    """Returns where downloads and logs are kept: TAGGER_CACHE_DIR, the checkout's `.cache`, or the user's cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    root = repository_root()
    if root:
        return root / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "photo-tagger"


def servers_folder() -> Path:
    """Returns the folder of the servers' environment; an installed package has one for each list and Python."""
    chosen = os.environ.get(SERVERS_ENV_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    root = repository_root()
    if root:
        return root / ".venv-servers"
    content = hashlib.sha256(servers_requirements().read_bytes()).hexdigest()[:12]
    return cache_folder() / f"servers-py{sys.version_info.major}.{sys.version_info.minor}-{content}"


def servers_environment() -> Path:
    """Returns the Python environment that holds the servers' binaries.

    Raises:
        EmbeddedServerError: There is none; the message says how to make it.
    """
    folder = servers_folder()
    if not (folder / "bin" / "python").exists():
        raise EmbeddedServerError(incomplete("Python"))
    return folder


def packages_of(environment: Path) -> tuple[Path, str]:
    """Returns an environment's site-packages and its Python's version, such as "3.11".

    Raises:
        EmbeddedServerError: It holds no Python 3.
    """
    found = sorted(environment.glob("lib/python3.*/site-packages"))
    if not found:
        raise EmbeddedServerError(incomplete("site-packages"))
    return found[0], found[0].parent.name.removeprefix("python")


def incomplete(lacks: str) -> str:
    """Returns the message for a servers' environment that lacks something: it says how to get a complete one."""
    folder = servers_folder()
    maker = "run `make setup`" if repository_root() else "`photo-tagger demo` makes one"
    if os.environ.get(SERVERS_ENV_VARIABLE):
        remedy = f"install {servers_requirements()} there; or unset {SERVERS_ENV_VARIABLE}, then {maker}"
    elif folder.exists():
        remedy = f"delete that folder, then {maker}"
    else:
        remedy = f"{maker}, or let {SERVERS_ENV_VARIABLE} name another"
    return f"no {lacks} in the servers' environment {folder}; {remedy}"


def unpacked_folders() -> list[Path]:
    """Returns where `scripts/setup` unpacks the libraries of Debian packages, for users without root."""
    return [cache_folder() / "debian" / folder / "x86_64-linux-gnu" for folder in ("usr/lib", "lib")]


def library_path(*folders: Path) -> str:
    """Returns an LD_LIBRARY_PATH: these folders, the unpacked ones, then the one that this process inherited."""
    inherited = os.environ.get("LD_LIBRARY_PATH")
    return os.pathsep.join([*map(str, (*folders, *unpacked_folders())), *([inherited] if inherited else [])])


def new_logs_folder() -> tuple[Path, int]:
    """Makes a folder for one run's logs in the cache, and drops the oldest beyond the last five that nobody uses.

    Returns:
        The folder, and the descriptor that holds its lock; keep it open for as long as the run lives.

    Raises:
        EmbeddedServerError: another run took the folder.
    """
    logs = cache_folder() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for old in sorted(entry for entry in logs.iterdir() if entry.is_dir())[: -(_KEPT_LOG_FOLDERS - 1)]:
        if (lock := _lock(old)) is not None:
            shutil.rmtree(old, ignore_errors=True)
            os.close(lock)
    folder = logs / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder.mkdir()
    lock = _lock(folder)
    if lock is None:
        message = f"another run took the log folder {folder}"
        raise EmbeddedServerError(message)
    return folder, lock


def _lock(folder: Path) -> int | None:
    """Locks a folder until the returned descriptor is closed; None where another process holds the lock."""
    import fcntl  # noqa: PLC0415 (not on Windows, where importing this module must still work for the clear error)

    try:
        lock = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def free_port() -> int:
    """Returns a free TCP port of 127.0.0.1.

    It lies below the range from which the kernel gives ports to outgoing connections, so that it is still free when the
    server starts, and again when it restarts.

    Raises:
        EmbeddedServerError: 200 guesses were all taken.
    """
    start_of_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    highest = start_of_ephemeral if start_of_ephemeral > 12_000 else 32_768  # noqa: PLR2004 (room to choose from)
    for _ in range(200):
        port = random.SystemRandom().randrange(highest - 10_000, highest)
        if _is_free(port):
            return port
    message = "found no free port on 127.0.0.1"
    raise EmbeddedServerError(message)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def require_linux() -> None:
    """Checks that this is Linux: the guardian uses prctl, /proc and /dev/shm.

    Raises:
        EmbeddedServerError: This is not Linux.
    """
    if sys.platform != "linux":
        message = "the embedded servers run on Linux only; elsewhere start the real stack: docker compose up --wait"
        raise EmbeddedServerError(message)
