"""A worker's side of the supervisor: it says where its health endpoint listens, and dies with its supervisor.

The variable `TAGGER_WORKER` holds `number:pid of the supervisor`. Standard input is then a socket whose other end only
the supervisor holds: its end is the supervisor's end, on every system. On Linux the kernel kills the worker as well,
which works even when no Python code runs any more. Killed is good enough here: what has no outcome is not committed.
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
    """This process as one of a supervisor's workers."""

    def __init__(self, number: int, channel: socket.socket) -> None:
        self.number = number
        self._channel = channel

    def report_port(self, port: int) -> None:
        """Tells the supervisor where this worker's health endpoint listens."""
        self._channel.sendall(f"{port}\n".encode())


def join_supervisor(environ: Mapping[str, str] = os.environ) -> Worker | None:
    """Ties this process to the supervisor that started it; None where no supervisor did.

    Call it first of all: a supervisor that ends before this line is noticed too, one that ends during the imports
    before it would not be.
    """
    told = environ.get(VARIABLE)
    if told is None:
        return None
    number, supervisor_pid = map(int, told.split(":"))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor_pid:
        os._exit(_ORPHANED)
    channel = socket.socket(fileno=os.dup(0))
    threading.Thread(target=_end_with_supervisor, args=(channel,), name="supervisor-watch", daemon=True).start()
    return Worker(number, channel)


def _end_with_supervisor(channel: socket.socket) -> None:
    try:
        while channel.recv(1):
            pass
    except OSError:
        pass
    os._exit(_ORPHANED)
