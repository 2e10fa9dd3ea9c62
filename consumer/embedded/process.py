"""Child processes of the embedded servers: the owner's side of the guardian, and one-off commands."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from consumer.embedded import leftovers

_POLL_S = 0.02
_GUARDIAN_START_TIMEOUT_S = 20.0
_REQUEST_TIMEOUT_S = 10.0
_PROBE_TIMEOUT_S = 1.0
#: The guardian gives servers 1.5 s to end by themselves, then removes what they wrote.
_SHUTDOWN_TIMEOUT_S = 15.0
#: A server reaps a child of its own that ended normally within milliseconds.
_STUCK_S = 1.0
_LOG_LINES = 20


class EmbeddedServerError(Exception):
    """A server could not be started, or did not answer; the message says which, why, and where its log is."""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """How to run one server.

    Attributes:
        name: Unique within the run; names the log file.
        argv: The command; its process is what `pid` names, so a shell must `exec`.
        env: The whole environment.
        answers: Asks the server something; false while it does not answer. Must return within a second or so.
        ready_timeout_s: How long it may take to answer after a start.
        stop_timeout_s: How long it may take to end after SIGTERM before SIGKILL.
        shm_prefix: Its shared-memory segments, which are removed when it has ended.
        is_stuck: Whether the process of this pid will never answer although it runs. A server that is stuck for a
            second while it starts is killed.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    answers: Callable[[], bool]
    ready_timeout_s: float = 30.0
    stop_timeout_s: float = 10.0
    shm_prefix: str | None = None
    is_stuck: Callable[[int], bool] = lambda _pid: False


class GuardianClient:
    """Owns the guardian process and speaks to it; safe to use from several threads.

    A context manager: at its exit every server is stopped, and the guardian has removed the run's files and memory.
    """

    def __init__(self, logs_dir: Path) -> None:
        """Starts the guardian; its log and the servers' logs are written to `logs_dir`, which is kept."""
        # The servers do not share our working directory.
        self.logs_dir = logs_dir.resolve()
        self._changed = threading.Condition()
        self._send_lock = threading.Lock()
        self._next_id = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._exits: dict[int, int] = {}
        self._folder: Path | None = None
        self._gone = False
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = self._spawn(theirs)
        self._reader = threading.Thread(target=self._read, name="guardian-reader", daemon=True)
        self._reader.start()
        try:
            self.folder = self._await_ready()
        except BaseException:
            self.close()
            raise

    def _spawn(self, channel: socket.socket) -> subprocess.Popen[bytes]:
        package_root = str(Path(__file__).resolve().parents[2])
        env = {**os.environ, "PYTHONPATH": package_root}
        # A run may be owned by a server of another run, in tests; its marker must not pass to our guardian.
        env.pop(leftovers.RUN_VARIABLE, None)
        with (self.logs_dir / "guardian.log").open("ab") as log:
            return subprocess.Popen(
                # -S: it needs no packages, and starts in a third of the time without them.
                [sys.executable, "-S", "-m", "consumer.embedded.guardian", str(os.getpid())],
                stdin=channel.fileno(),
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
            )

    def _await_ready(self) -> Path:
        with self._changed:
            self._changed.wait_for(lambda: self._folder or self._gone, _GUARDIAN_START_TIMEOUT_S)
            if self._folder is None:
                raise EmbeddedServerError(_describe("the guardian did not start", self.logs_dir / "guardian.log"))
            return self._folder

    @property
    def pid(self) -> int:
        """The guardian's process id."""
        return self._process.pid

    def start(self, spec: ServerSpec, log_path: Path) -> int:
        """Starts a server and returns its pid, without waiting for it to answer."""
        answer = self._request(
            {
                "op": "start",
                "argv": list(spec.argv),
                "env": dict(spec.env),
                "log": str(log_path),
                "shm_prefix": spec.shm_prefix,
            }
        )
        return int(answer["pid"])

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Sends a signal to a server's whole process group; nothing happens if it has ended."""
        self._request({"op": "signal", "pid": pid, "signal": int(number)})

    def stop(self, pid: int, timeout_s: float) -> None:
        """Asks a server to end, and has it killed when it has not after `timeout_s`; waits for neither."""
        self._request({"op": "stop", "pid": pid, "timeout_s": timeout_s})

    def exit_status(self, pid: int) -> int | None:
        """Returns a server's exit status (negative: the signal that ended it), or None while it runs."""
        with self._changed:
            return self._exits.get(pid, -signal.SIGKILL if self._gone else None)

    def wait_exit(self, pid: int, timeout_s: float) -> bool:
        """Waits for a server's end; returns whether it ended in time."""
        with self._changed:
            return self._changed.wait_for(lambda: pid in self._exits or self._gone, timeout_s)

    def close(self) -> None:
        """Stops every server, waits until the guardian has cleaned up, and cleans up itself if it was killed."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_SHUTDOWN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._channel.close()
        if self._process.returncode != 0 and self._folder is not None:
            leftovers.remove_run(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._changed:
            request["id"] = self._next_id = self._next_id + 1
        try:
            with self._send_lock:
                self._channel.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            message = f"the guardian has ended; its log is {self.logs_dir / 'guardian.log'}"
            raise EmbeddedServerError(message) from error
        with self._changed:
            self._changed.wait_for(lambda: request["id"] in self._answers or self._gone, _REQUEST_TIMEOUT_S)
            answer = self._answers.pop(request["id"], {"error": "the guardian did not answer"})
        if answer["error"]:
            message = f"cannot {request['op']} a server: {answer['error']}"
            raise EmbeddedServerError(message)
        return answer

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._channel.makefile("rb") as lines:
            for line in lines:
                self._note(json.loads(line))
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def _note(self, message: dict[str, Any]) -> None:
        with self._changed:
            if message.get("event") == "ready":
                self._folder = Path(message["folder"])
            elif message.get("event") == "exited":
                self._exits[message["pid"]] = message["status"]
            else:
                self._answers[message["id"]] = message
            self._changed.notify_all()


class Server:
    """A server under a guardian; it can be stopped, killed and paused, as fault tests do."""

    def __init__(self, guardian: GuardianClient, spec: ServerSpec) -> None:
        """Names the server; `start` runs it."""
        self._guardian = guardian
        self._spec = spec
        self._pid: int | None = None
        #: Kept after the run.
        self.log_path = guardian.logs_dir / f"{spec.name}.log"

    @property
    def pid(self) -> int:
        """The server's process id, also its process group; the last one if it has ended.

        Raises:
            EmbeddedServerError: It was never started.
        """
        if self._pid is None:
            message = f"{self._spec.name} was not started"
            raise EmbeddedServerError(message)
        return self._pid

    @property
    def running(self) -> bool:
        """Whether its process lives; a paused one does."""
        return self._pid is not None and self._guardian.exit_status(self._pid) is None

    def start(self) -> None:
        """Starts the process and waits until it answers; raises as `wait_ready` does."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Starts the process and does not wait."""
        self._pid = self._guardian.start(self._spec, self.log_path)

    def wait_ready(self) -> None:
        """Waits until it answers.

        Raises:
            EmbeddedServerError: It ended, or did not answer in time and was killed; with the last lines of its log.
        """
        name = self._spec.name
        now_s = healthy_s = time.monotonic()
        deadline_s = now_s + self._spec.ready_timeout_s
        while not self._spec.answers():
            if self._guardian.wait_exit(self.pid, _POLL_S):
                self._fail(f"{name} ended with status {self._guardian.exit_status(self.pid)} while starting")
            now_s = time.monotonic()
            if not self._spec.is_stuck(self.pid):
                healthy_s = now_s
            if now_s > healthy_s + _STUCK_S:
                self._fail(f"{name} cannot start: a process that it started has died")
            if now_s > deadline_s:
                self._fail(f"{name} did not answer within {self._spec.ready_timeout_s:.0f} s")

    def _fail(self, message: str) -> NoReturn:
        self.kill()
        raise EmbeddedServerError(_describe(message, self.log_path))

    def stop(self) -> None:
        """Ends it as an operator would (SIGTERM), and waits for its end; it can be started again on its data."""
        if self.running:
            self._guardian.stop(self.pid, self._spec.stop_timeout_s)
            self._guardian.wait_exit(self.pid, self._spec.stop_timeout_s + _REQUEST_TIMEOUT_S)

    def kill(self) -> None:
        """Ends its whole process group at once (SIGKILL), and waits until it is gone."""
        if self.running:
            self._guardian.signal(self.pid, signal.SIGKILL)
            self._guardian.wait_exit(self.pid, _REQUEST_TIMEOUT_S)

    def pause(self) -> None:
        """Freezes it (SIGSTOP): its connections stay open and nothing answers."""
        self._guardian.signal(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused one go on."""
        self._guardian.signal(self.pid, signal.SIGCONT)


def _describe(message: str, log_path: Path) -> str:
    try:
        lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    # Triton ends its log with tables of its options; the reason stands before them.
    lines = [line for line in lines if not line.startswith(("|", "+-"))][-_LOG_LINES:]
    return "\n".join([f"{message}; its log is {log_path}", *(f"  {line}" for line in lines)])


def responds_ok(port: int, path: str) -> bool:
    """Whether a GET on this loopback port is answered with 200 within a second."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def run_command(argv: Sequence[str], timeout_s: float, failure: str) -> None:
    """Runs a command to its end.

    Raises:
        EmbeddedServerError: It failed or took longer; the message is `failure`, the command and the end of its output.
    """
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{failure}\n`{' '.join(argv)}` took more than {timeout_s:.0f} s"
        raise EmbeddedServerError(message) from error
    if done.returncode != 0:
        message = f"{failure}\n`{' '.join(argv)}` said:\n{done.stdout[-4000:]}"
        raise EmbeddedServerError(message)
