import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from consumer.service import worker
from consumer.service.supervisor import Backoff, Supervisor, environment_of
from consumer.settings import KafkaSettings, Settings
from tests.fakes import RecordingLog
from tests.harness import eventually

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('up', 'w'); time.sleep(60)"
ONCE = "import os, sys, time; os.path.exists('one') and time.sleep(60); open('one', 'w'); sys.exit(1)"
DEAF = "import socket, time; socket.socket(fileno=0).sendall(b'1\\n'); time.sleep(60)"
ANSWERING = """
import http.server, json, socket
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status})
        self.end_headers()
        self.wfile.write(json.dumps(dict(waiting_for=["a record"], oldest={head})).encode())
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
channel = socket.socket(fileno=0)
channel.sendall(b"%d\\n" % server.server_port)
server.serve_forever()
"""


class Crew:
    """A supervisor of small programs; each worker runs the program that its variable `PROGRAM` holds."""

    def __init__(self, folder: Path, *programs: str, **more: float) -> None:
        self.log = RecordingLog()
        environments = [
            {**os.environ, "PROGRAM": f"import os; os.chdir({str(folder)!r}); {program}"} for program in programs
        ]
        command = [sys.executable, "-S", "-c", "import os; exec(os.environ['PROGRAM'])"]
        self.supervisor = Supervisor(
            environments,
            log=self.log,
            command=command,
            final_codes=frozenset({3}),
            **{"patience_s": 30.0, **more},
        )

    def started(self) -> list[dict[str, object]]:
        return self.log.named("worker.started")


def test_a_worker_that_keeps_failing_is_started_ever_more_rarely_up_to_half_a_minute() -> None:
    backoff = Backoff()
    assert [backoff.delay_s(1) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_worker_that_lived_for_a_minute_is_started_at_once_again() -> None:
    backoff = Backoff()
    for _ in range(8):
        backoff.delay_s(1)
    assert [backoff.delay_s(60), backoff.delay_s(59.9)] == [0.5, 1]


async def test_a_worker_that_ends_is_started_again_and_its_neighbour_is_left_alone(tmp_path: Path) -> None:
    crew = Crew(tmp_path, ONCE, SLEEP)
    running = asyncio.create_task(crew.supervisor.run())
    await eventually(lambda: len(crew.started()) == 3)
    assert crew.log.named("worker.ended") == [{"worker": 0, "code": 1}]
    assert crew.log.named("worker.restarted") == [{"worker": 0, "after_s": 0.5}]
    assert [line["worker"] for line in crew.started()].count(1) == 1
    assert crew.supervisor.metrics.restarts._value.get() == 1
    crew.supervisor.stop()
    assert await running == 0
    assert crew.supervisor.metrics.workers._value.get() == 0


@pytest.mark.parametrize("lack", [None, RuntimeError("can't start new thread"), MemoryError()])
async def test_a_worker_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, lack: Exception | None
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise lack  # type: ignore[misc]

    if lack is not None:
        monkeypatch.setattr(asyncio, "create_subprocess_exec", fails)
    log = RecordingLog()
    supervisor = Supervisor([{}], log=log, patience_s=1, command=["/nowhere/at/all"])
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: len(log.named("worker.ended")) == 2)
    supervisor.stop()
    assert await running == 0


async def test_a_code_that_no_restart_mends_ends_all_workers_with_it(tmp_path: Path) -> None:
    crew = Crew(tmp_path, SLEEP, "import sys; sys.exit(3)")
    assert await crew.supervisor.run() == 3
    assert len(crew.started()) == 2
    assert not crew.log.named("worker.restarted")


async def test_a_worker_that_does_not_end_when_asked_is_killed_and_the_code_says_so(tmp_path: Path) -> None:
    crew = Crew(tmp_path, STUBBORN, SLEEP, patience_s=0.2)
    running = asyncio.create_task(crew.supervisor.run())
    await eventually((tmp_path / "up").exists)
    crew.supervisor.stop()
    assert await running == 1
    assert crew.log.named("worker.killed") == [{"worker": 0, "after_s": 0.2}]


async def test_a_worker_that_does_not_answer_is_killed_and_started_again(tmp_path: Path) -> None:
    crew = Crew(tmp_path, DEAF, hung_s=0.1)
    running = asyncio.create_task(crew.supervisor.run())
    await eventually(lambda: crew.log.named("worker.restarted"))
    assert crew.log.named("worker.hung") == [{"worker": 0}]
    assert crew.log.named("worker.ended") == [{"worker": 0, "code": -signal.SIGKILL}]
    assert await crew.supervisor.not_ready() == ["worker 0: not running"]
    crew.supervisor.stop()
    assert await running == 0


async def test_the_oldest_record_of_all_workers_is_named_with_its_worker(tmp_path: Path) -> None:
    heads = [{"age_s": 1.5}, {"age_s": 700.0}, None]
    crew = Crew(tmp_path, *(ANSWERING.format(head=head, status=503 if head else 200) for head in heads), SLEEP)
    running = asyncio.create_task(crew.supervisor.run())
    pages: dict[int, tuple[int, str]] = {}
    while [status for status, _ in pages.values()] != [503, 503, 200, 0]:
        pages = await crew.supervisor.pages("/ready")
    found = await crew.supervisor.readiness()
    assert found.oldest == {"age_s": 700.0, "worker": 1}
    assert found.waiting_for == ["worker 0: a record", "worker 1: a record", "worker 3: not running"]
    crew.supervisor.stop()
    assert await running == 0


async def test_a_stop_during_the_back_off_starts_nothing_more(tmp_path: Path) -> None:
    crew = Crew(tmp_path, "import sys; sys.exit(1)")
    running = asyncio.create_task(crew.supervisor.run())
    await eventually(lambda: crew.log.named("worker.ended"))
    crew.supervisor.stop()
    assert await running == 0
    assert len(crew.started()) == 1


def test_a_worker_has_its_own_loopback_endpoint_and_its_own_name_in_the_group() -> None:
    settings = Settings(kafka=KafkaSettings(instance_id="host7"))
    ours = {"PATH": "/bin", "tagger_health__port": "9400", "TAGGER_SERVICE__WORKERS": "3", "TAGGER_REDIS__URL": "u"}
    ours |= {"TAGGER_HEALTH__HOST_FILE": "/run/host"}
    assert environment_of(settings, 2, ours) == {
        "PATH": "/bin",
        "TAGGER_REDIS__URL": "u",
        "TAGGER_SERVICE__WORKERS": "1",
        "TAGGER_HEALTH__ENABLED": "true",
        "TAGGER_HEALTH__HOST": "127.0.0.1",
        "TAGGER_HEALTH__PORT": "0",
        "TAGGER_KAFKA__INSTANCE_ID": "host7-2",
    }
    assert "TAGGER_KAFKA__INSTANCE_ID" not in environment_of(Settings(), 0, {})


def test_without_a_supervisor_nothing_is_joined() -> None:
    assert worker.join_supervisor({}) is None


JOIN = "from consumer.service.worker import join_supervisor as j; import time; j().report_port(7); time.sleep(60)"


@pytest.mark.parametrize("supervisor_pid", [os.getpid(), 1], ids=["ours", "another"])
def test_a_worker_ends_with_its_supervisor(supervisor_pid: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        environment = {**os.environ, worker.VARIABLE: f"0:{supervisor_pid}"}
        process = subprocess.Popen([sys.executable, "-c", JOIN], stdin=theirs, env=environment)
        theirs.close()
        ours.settimeout(30)
        told = ours.recv(10)
        assert told == (b"7\n" if supervisor_pid == os.getpid() else b"")
        ours.close()
        began = time.monotonic()
        assert process.wait(30) == 1
        assert time.monotonic() - began < 10


def test_two_group_protocols_are_not_mixed() -> None:
    with pytest.raises(ValueError, match=r"leaves session\.timeout\.ms to the broker"):
        KafkaSettings(group_protocol="consumer", extra={"session.timeout.ms": 6000})
    with pytest.raises(ValueError, match=r"group\.instance\.id is set by kafka\.instance_id"):
        KafkaSettings(extra={"group.instance.id": "a"})
    assert KafkaSettings(group_protocol="consumer", extra={"fetch.wait.max.ms": 10})
