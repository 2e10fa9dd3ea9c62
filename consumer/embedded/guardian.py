"""The guardian: a small process that starts the servers, and stops and cleans up after them when their owner ends.

It is a process because an owner that is killed with SIGKILL cleans up nothing, and a killed Triton leaves its Python
stubs running and their shared memory allocated. The guardian has a session of its own, so a Ctrl-C in the terminal does
not reach it; it learns of the owner's end by the closing of their channel (and by the owner's pidfd, since a forked
child of the owner may hold a copy of the channel). Then it stops every server, removes the run's folder and shared
memory, and exits. If the guardian itself is killed, the kernel kills its servers (PR_SET_PDEATHSIG), and the owner, or
else the next run, removes what is left.

The channel is a stream socket as standard input, one JSON object a line. The owner asks `{"id", "op": "start"|"signal"|
"stop", ...}`; each request is answered by `{"id", "error": text|null, "pid"}`; `{"event": "ready", "folder"}` comes
first, and `{"event": "exited", "pid", "status"}` for each server that ends.
"""

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consumer.embedded import leftovers

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: How long servers get to end by themselves once the owner is gone: enough for Kafka and Redis (0.3 s). Triton takes
#: 3 s to unload its models and is killed before: it holds nothing that outlives it but shared memory, which is removed.
_GRACE_S = 1.5


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    shm_prefix: str | None
    began_s: float  # as time.time
    kill_at_s: float | None = None  # monotonic time of the SIGKILL after a stop


class Guardian:
    """Owns the servers' processes; single-threaded, since PR_SET_PDEATHSIG is tied to the thread that forks."""

    def __init__(self, channel: socket.socket, folder: Path) -> None:
        """Takes the channel to the owner and the run's folder."""
        self._channel = channel
        self._folder = folder
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._received = b""
        self._closing = False
        self._libc = ctypes.CDLL(None, use_errno=True)
        # Orphaned Triton stubs become our children, so that we see them and can reap them.
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def run(self, owner_pid: int) -> None:
        """Serves the owner until it is gone, then stops every server and removes the run's files and memory."""
        wake = self._wake_on_signals()
        self._selector.register(wake, selectors.EVENT_READ, lambda: self._on_signals(wake))
        self._selector.register(self._channel, selectors.EVENT_READ, self._on_channel)
        with contextlib.suppress(OSError):  # kernels before 5.3 have no pidfd; the channel does then
            self._selector.register(os.pidfd_open(owner_pid), selectors.EVENT_READ, self._close)
        self._send({"event": "ready", "folder": str(self._folder)})
        while not self._closing or self._children:
            for key, _ in self._selector.select(self._next_kill_s()):
                key.data()
            self._reap()
            self._kill_overdue()
        leftovers.remove_run(self._folder)
        self._reap()

    def _wake_on_signals(self) -> socket.socket:
        receiver, sender = socket.socketpair()
        receiver.settimeout(0)
        sender.settimeout(0)
        signal.set_wakeup_fd(sender.detach())
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        return receiver

    def _on_signals(self, wake: socket.socket) -> None:
        if set(wake.recv(4096)) - {signal.SIGCHLD}:
            self._close()

    def _on_channel(self) -> None:
        try:
            data = self._channel.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            self._close()
            return
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._answer(json.loads(line))

    def _answer(self, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": request["id"], "error": None, "pid": request.get("pid")}
        try:
            if request["op"] == "start":
                answer["pid"] = self._start(request)
            elif request["op"] == "signal":
                self._signal(request["pid"], request["signal"])
            else:
                self._stop(request["pid"], request["timeout_s"])
        except OSError as error:
            answer["error"] = str(error)
        self._send(answer)

    def _start(self, request: dict[str, Any]) -> int:
        guardian_pid = os.getpid()

        def die_with_guardian() -> None:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != guardian_pid:  # it died before the line above
                os._exit(1)

        began_s = time.time()
        with Path(request["log"]).open("ab") as log:
            process = subprocess.Popen(
                request["argv"],
                env={**request["env"], leftovers.RUN_VARIABLE: self._folder.name},
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=die_with_guardian,  # noqa: PLW1509 (we have one thread)
            )
        self._children[process.pid] = _Child(process, request["shm_prefix"], began_s)
        return process.pid

    def _signal(self, pid: int, number: int) -> None:
        if pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)

    def _stop(self, pid: int, timeout_s: float) -> None:
        if pid not in self._children:
            return
        self._children[pid].kill_at_s = time.monotonic() + timeout_s
        # To the leader only: a Triton stub that ends by a signal before its server makes the server wait for it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        self._signal(pid, signal.SIGCONT)  # a paused process would not see the signal

    def _close(self) -> None:
        if self._closing:
            return
        self._closing = True
        for key in [*self._selector.get_map().values()]:
            if key.data in (self._on_channel, self._close):
                self._selector.unregister(key.fileobj)
        for pid in self._children:
            self._stop(pid, _GRACE_S)

    def _next_kill_s(self) -> float | None:
        deadlines = [child.kill_at_s for child in self._children.values() if child.kill_at_s is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _kill_overdue(self) -> None:
        now_s = time.monotonic()
        for pid, child in self._children.items():
            if child.kill_at_s is not None and child.kill_at_s <= now_s:
                child.kill_at_s = None
                self._signal(pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Reaps every dead child; of a server also its process group and its shared memory."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            child = self._children.get(ended.si_pid)
            if child is not None:
                # Before the pid is freed below, so that the group's number cannot be reused.
                self._signal(ended.si_pid, signal.SIGKILL)
            os.waitpid(ended.si_pid, 0)
            if child is not None:
                self._record_exit(
                    ended.si_pid, child, ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
                )

    def _record_exit(self, pid: int, child: _Child, status: int) -> None:
        child.process.returncode = status  # we waited for it; tells Popen not to
        del self._children[pid]
        if child.shm_prefix:
            leftovers.remove_shared_memory(child.shm_prefix)
            leftovers.remove_environments(child.began_s)
        self._send({"event": "exited", "pid": pid, "status": status})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._close()


def main() -> None:
    """Runs the guardian of the owner whose pid is the only argument; standard input is the channel."""
    swept = leftovers.sweep()
    if swept:
        print(f"removed what dead runs left: {', '.join(swept)}", flush=True)  # noqa: T201 (its log)
    os.chdir("/")
    folder, _lock = leftovers.create_run_folder()
    Guardian(socket.socket(fileno=0), folder).run(int(sys.argv[1]))


if __name__ == "__main__":
    main()
