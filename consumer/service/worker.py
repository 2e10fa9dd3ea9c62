"""The worker's side of the supervisor: it reports the port of its health endpoint, and ends with its supervisor.

The variable `TAGGER_WORKER` holds `number:pid of the supervisor`. Standard input is then a socket whose other end only
the supervisor holds: it closes when the supervisor ends, on every system. On Linux the kernel kills the worker as well,
even when no Python code runs any more. A kill is safe: what has no outcome is not committed.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Final

VARIABLE: Final = "TAGGER_WORKER"
_PR_SET_PDEATHSIG: Final = 1
_ORPHANED: Final = 1


class Worker:
    """This process, as one of the workers of a supervisor."""

    def __init__(self, number: int, channel: socket.socket) -> None:
        self.number = number
        self._channel = channel

    def report_port(self, port: int) -> None:
        """Tells the supervisor the port of this worker's health endpoint."""
        self._channel.sendall(f"{port}\n".encode())


def join_supervisor(environ: Mapping[str, str] = os.environ) -> Worker | None:
    """Makes this process end with the supervisor that started it; None where no supervisor did.

    Call it before slow imports. A supervisor that ended before this call is noticed too.
    """
    told = environ.get(VARIABLE)
    if told is None:
        return None
    number, supervisor_pid = map(int, told.split(":"))
    end_with(supervisor_pid)
    channel = socket.socket(fileno=os.dup(0))
    threading.Thread(target=_end_with_supervisor, args=(channel,), name="supervisor-watch", daemon=True).start()
    return Worker(number, channel)


def end_with(parent_pid: int) -> None:
    """Makes this process end with its parent: at once on Linux, elsewhere if that has ended before this call."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(_ORPHANED)


def _end_with_supervisor(channel: socket.socket) -> None:
    try:
        while channel.recv(1):
            pass
    except OSError:
        pass
    os._exit(_ORPHANED)
