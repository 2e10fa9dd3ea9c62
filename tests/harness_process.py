"""Runs `photo-tagger` as a user does: a process of its own, configured by its environment."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consumer.settings import Settings
from tests.harness import eventually

ROOT = Path(__file__).resolve().parents[1]
_READY_S = 60.0
#: Without the proxies of an environment that some test has set: `urlopen` keeps those of its first call.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """The environment that gives a process these settings."""
    values = {
        "TAGGER_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "TAGGER_KAFKA__GROUP_ID": settings.kafka.group_id,
        "TAGGER_KAFKA__UPLOADS_TOPIC": settings.kafka.uploads_topic,
        "TAGGER_KAFKA__TAGS_TOPIC": settings.kafka.tags_topic,
        "TAGGER_KAFKA__DEAD_TOPIC": settings.kafka.dead_topic,
        "TAGGER_KAFKA__RETRY_TOPIC": settings.kafka.retry_topic,
        "TAGGER_KAFKA__RELEASES_TOPIC": settings.kafka.releases_topic,
        "TAGGER_KAFKA__RUNS_TOPIC": settings.kafka.runs_topic,
        "TAGGER_RETRY__ROUNDS": str(settings.retry.rounds),
        "TAGGER_RETRY__DELAYS_S": ",".join(map(str, settings.retry.delays_s)),
        "TAGGER_REDIS__URL": settings.redis.url,
        "TAGGER_REDIS__CLUSTER": str(settings.redis.cluster),
        "TAGGER_TRITON__URL": settings.triton.url,
        "TAGGER_FETCH__SCHEMES": "http",
        "TAGGER_FETCH__ALLOW_ADDRESSES": ",".join(settings.fetch.allow_addresses),
        "TAGGER_FETCH__NOT_FOUND_GRACE_S": str(settings.fetch.not_found_grace_s),
        "TAGGER_LOG__FORMAT": "json",
        # Whatever the machine has, and others do on it: not more workers, and a replay that gets on.
        "TAGGER_SERVICE__WORKERS": "1",
        "TAGGER_SERVICE__REPLAY_YIELDS": "false",
        # Processes that start in another folder run this checkout, not one that happens to be installed.
        "PYTHONPATH": str(ROOT),
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TAGGER_")}
    return {**inherited, **values, **more}


def photo_tagger(
    *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "consumer.cli", *arguments],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


@dataclass
class RunningTagger:
    """A running `photo-tagger run`, its log and its health endpoint."""

    process: subprocess.Popen[bytes]
    log_path: Path
    port: int

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """The log's lines, or those of one event."""
        lines = [json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if event is None or line["event"] == event]

    def partitions(self, topic: str) -> set[str]:
        """The partitions of a topic that it has, by its log; of one process, not of several workers."""
        held: set[str] = set()
        for line in self.log():
            if line["event"] == "assignment.received":
                held |= set(line["partitions"])
            elif line["event"] == "assignment.revoked":
                held -= set(line["partitions"])
        return {partition for partition in held if partition.startswith(f"{topic}[")}

    def workers(self) -> dict[int, int]:
        """The pid of each worker that was started last."""
        return {line["worker"]: line["pid"] for line in self.log("worker.started")}

    def measured(self, name: str) -> dict[int, float]:
        """The sum of a metric for each worker."""
        found: dict[int, float] = {}
        lines = re.findall(rf'^{name}{{[^}}]*worker="(\d+)"}} (\S+)$', self.get("/metrics")[1], re.MULTILINE)
        for number, value in lines:
            found[int(number)] = found.get(int(number), 0.0) + float(value)
        return found

    async def all_at_work(self, partitions: int = 4) -> None:
        """Waits until every worker is ready and has a share of the partitions."""
        await asyncio.to_thread(self.wait_ready)
        await eventually(lambda: (shares := self.measured("tagger_assigned_partitions").values()) and all(shares))
        await eventually(lambda: sum(self.measured("tagger_assigned_partitions").values()) == partitions)

    def memory(self, kind: str = "VmRSS") -> int:
        """The process's resident memory in bytes: now (VmRSS) or at its highest (VmHWM)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{kind}:"))) * 1024

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of the health endpoint; status 0 where nothing listens."""
        try:
            with _DIRECT.open(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self) -> None:
        """Polls /ready until it answers 200."""
        end = time.monotonic() + _READY_S
        while self.get("/ready")[0] != 200:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log_path.read_text()}"
            assert time.monotonic() < end, f"not ready: {self.get('/ready')}, {self.log_path.read_text()}"
            time.sleep(0.05)

    def terminate(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Sends a signal and returns the exit code and the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(30), time.monotonic() - began


@contextmanager
def running_tagger(
    settings: Settings, folder: Path, *arguments: str, port: int, name: str = "tagger", **more: str
) -> Iterator[RunningTagger]:
    """`photo-tagger run` in a process of its own; killed at the end if it still runs."""
    log_path = folder / f"{name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "consumer.cli", "run", *arguments],
            env=environment(settings, TAGGER_HEALTH__PORT=str(port), **more),
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield RunningTagger(process, log_path, port)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
