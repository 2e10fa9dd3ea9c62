"""Several workers of one consumer group on one host: each is a process, restarted when it ends.

Processes and not threads, because a decode that hangs, a crash in a decoder or a leak then affects one worker. Workers
share nothing but the group: Kafka assigns partitions to each. The supervisor stops them with SIGTERM, ensures that they
do not outlive it (`worker.py`), probes each, and serves health and metrics of all.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic
from typing import Any, Final

import aiohttp
import orjson

from consumer.service import worker, worker_metrics
from consumer.service.health import Readiness, serve_health
from consumer.service.signals import ignore_stop_signals, stop_on_signals
from consumer.settings import Settings, variable_of
from consumer.settings.environment import FILE
from consumer.telemetry import Log, SupervisorMetrics

COMMAND: Final = (sys.executable, "-m", "consumer.cli", "run")

_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 30.0
_STABLE_S: Final = 60.0
#: Time for a worker after its drain, to leave the group and flush its producer.
_EXIT_S: Final = 15.0
_PROBE_S: Final = 1.0
_PROBE_TIMEOUT_S: Final = 2.0
_HUNG_S: Final = 10.0
_STARTING_S: Final = 90.0
_ANSWERS: Final = frozenset({HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(slots=True)
class Backoff:
    """The delay before a worker is restarted: doubled each time, until one has run for a minute."""

    next_s: float = _FIRST_DELAY_S

    def delay_s(self, lived_s: float) -> float:
        """The delay after a worker that ran for `lived_s`."""
        delay = _FIRST_DELAY_S if lived_s >= _STABLE_S else self.next_s
        self.next_s = min(2 * delay, _LONGEST_DELAY_S)
        return delay


@dataclass(slots=True)
class _Slot:
    number: int
    backoff: Backoff = field(default_factory=Backoff)
    process: asyncio.subprocess.Process | None = None
    port: int | None = None


class Supervisor:
    """Keeps one process of `command` running for each environment, until it is stopped or one ends with a final code.

    A worker that was asked to stop is killed after `patience_s`; one that has not answered for `hung_s` is killed too.
    `final_codes` are exit codes after which a restart does not help.
    """

    def __init__(
        self,
        environments: Sequence[Mapping[str, str]],
        *,
        log: Log,
        patience_s: float,
        hung_s: float = _HUNG_S,
        final_codes: frozenset[int] = frozenset(),
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._environments = environments
        self._command = command
        self._log = log
        self._patience_s = patience_s
        self._hung_s = hung_s
        self._final_codes = final_codes
        self._slots = [_Slot(number) for number in range(len(environments))]
        self._stopping = asyncio.Event()
        self._code = 0
        self.metrics = SupervisorMetrics()

    def stop(self) -> None:
        """Asks every worker to drain and exit."""
        self._stopping.set()

    async def run(self) -> int:
        """Runs the workers; returns 0 when all have drained, else a final code or 1."""
        self._log.info("workers.started", workers=len(self._slots))
        async with asyncio.TaskGroup() as group:
            for slot in self._slots:
                group.create_task(self._keep(slot))
        self._log.info("workers.stopped", code=self._code)
        return self._code

    async def pages(self, path: str) -> dict[int, tuple[int, str]]:
        """Status and text of one path of every worker, by number; status 0 where it does not answer."""
        pages = await asyncio.gather(*(_page(slot.port, path) for slot in self._slots))
        return {slot.number: page for slot, page in zip(self._slots, pages, strict=True)}

    async def not_ready(self) -> list[str]:
        """What is missing until every worker can tag photos."""
        return (await self.readiness()).waiting_for

    async def readiness(self) -> Readiness:
        """What is missing until every worker can tag photos, and the oldest unfinished record of all.

        Every worker, because a rollout waits for this answer, and a version of which some workers fail must not pass. A
        worker without partitions is ready: it is on standby.
        """
        pages = await self.pages("/ready")
        waiting = [f"worker {number}: {_reasons(*page)}" for number, page in pages.items() if page[0] != HTTPStatus.OK]
        heads = [{**head, "worker": number} for number, page in pages.items() if (head := _head(*page)) is not None]
        oldest = max(heads, key=lambda head: head["age_s"], default=None)
        return Readiness([*waiting, "stopping"] if self._stopping.is_set() else waiting, oldest)

    async def scrape(self) -> bytes:
        """One page with the metrics of all workers and of the supervisor."""
        pages = await self.pages("/metrics")
        texts = {number: text for number, (status, text) in pages.items() if status == HTTPStatus.OK}
        return worker_metrics.merge(texts, self.metrics.registry)

    async def _keep(self, slot: _Slot) -> None:
        while not self._stopping.is_set():
            began_s = monotonic()
            try:
                code = await self._run_once(slot)
            except (OSError, RuntimeError, MemoryError):  # out of processes, threads or memory, maybe for a moment
                code = 1
            if self._stopping.is_set():
                # A worker that was still starting has no signal handler, and nothing to drain.
                self._code = self._code or int(code not in {0, -signal.SIGTERM})
                self._log.info("worker.ended", worker=slot.number, code=code)
                return
            self._log.warning("worker.ended", worker=slot.number, code=code)
            if code in self._final_codes:
                self._code = code
                self.stop()
                return
            self.metrics.restarts.inc()
            delay_s = slot.backoff.delay_s(monotonic() - began_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
            if not self._stopping.is_set():
                self._log.info("worker.restarted", worker=slot.number, after_s=delay_s)

    async def _run_once(self, slot: _Slot) -> int:
        """Runs one worker process; returns its exit code, negative for a signal."""
        ours, theirs = socket.socketpair()
        # Held open while the worker runs: its end tells the worker that the supervisor ended.
        reader, writer = await asyncio.open_connection(sock=ours)
        with closing(theirs), closing(writer):
            environment = {**self._environments[slot.number], worker.VARIABLE: f"{slot.number}:{os.getpid()}"}
            # Its own process group: Ctrl-C in a terminal reaches the supervisor alone, which stops each worker once.
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=theirs.fileno(), env=environment, process_group=0
            )
            theirs.close()
            slot.process = process
            self.metrics.workers.inc()
            self._log.info("worker.started", worker=slot.number, pid=process.pid)
            tasks = (self._learn_port(slot, reader), self._watch(slot), self._end(slot))
            helpers = [asyncio.create_task(task) for task in tasks]
            try:
                return await process.wait()
            finally:
                for helper in helpers:
                    helper.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)
                slot.process, slot.port = None, None
                self.metrics.workers.dec()

    @staticmethod
    async def _learn_port(slot: _Slot, reader: asyncio.StreamReader) -> None:
        line = await reader.readline()
        slot.port = int(line) if line.endswith(b"\n") else None

    async def _watch(self, slot: _Slot) -> None:
        """Kills a worker that no longer answers: its event loop, or the whole process, hangs."""
        answered_s = began_s = monotonic()
        while not self._stopping.is_set():
            await asyncio.sleep(_PROBE_S)
            starting = slot.port is None and monotonic() - began_s < _STARTING_S
            if starting or (await _page(slot.port, "/live"))[0] == HTTPStatus.OK:
                answered_s = monotonic()
            elif monotonic() - answered_s > self._hung_s:
                self._log.error("worker.hung", worker=slot.number)
                _signal(slot, signal.SIGKILL)
                return

    async def _end(self, slot: _Slot) -> None:
        """Once asked to stop: SIGTERM, time for the drain, SIGKILL."""
        await self._stopping.wait()
        self._log.info("workers.stopping", worker=slot.number)
        _signal(slot, signal.SIGTERM)
        await asyncio.sleep(self._patience_s)
        self._log.error("worker.killed", worker=slot.number, after_s=self._patience_s)
        _signal(slot, signal.SIGKILL)


async def run_workers(settings: Settings, workers: int, log: Log, final_codes: frozenset[int]) -> int:
    """Runs workers until SIGTERM, SIGINT or SIGHUP, with one health endpoint for all; returns the exit code."""
    environments = [environment_of(settings, number, os.environ) for number in range(workers)]
    supervisor = Supervisor(
        environments, log=log, patience_s=settings.service.drain_timeout_s + _EXIT_S, final_codes=final_codes
    )
    async with AsyncExitStack() as stack:
        stack.callback(ignore_stop_signals)
        stack.enter_context(stop_on_signals(supervisor.stop))
        if settings.health.enabled:
            # Always live: a worker that hangs is replaced here, and a supervisor that hangs does not answer.
            endpoint = serve_health(
                settings.health.host,
                settings.health.port,
                live=lambda: True,
                readiness=supervisor.readiness,
                metrics=supervisor.scrape,
            )
            await stack.enter_async_context(endpoint)
        return await supervisor.run()


def environment_of(settings: Settings, number: int, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of one worker: this process's, with a health endpoint and a group instance id of its own."""
    own = {
        "service.workers": "1",
        "health.enabled": "true",
        "health.host": "127.0.0.1",
        "health.port": "0",
    }
    if settings.kafka.instance_id:
        own["kafka.instance_id"] = f"{settings.kafka.instance_id}-{number}"
    changed = {variable_of(name): value for name, value in own.items()}
    kept = {name: value for name, value in environ.items() if name.upper().removesuffix(FILE) not in changed}
    return kept | changed


async def _page(port: int | None, path: str) -> tuple[int, str]:
    if port is None:
        return 0, ""
    url, timeout = f"http://127.0.0.1:{port}{path}", aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)
    try:
        async with aiohttp.request("GET", url, timeout=timeout) as answer:
            return answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError):
        return 0, ""


def _reasons(status: int, body: str) -> str:
    return ", ".join(orjson.loads(body)["waiting_for"]) if status == HTTPStatus.SERVICE_UNAVAILABLE else "not running"


def _head(status: int, body: str) -> dict[str, Any] | None:
    """A worker's oldest unfinished record."""
    head: dict[str, Any] | None = orjson.loads(body)["oldest"] if status in _ANSWERS else None
    return head


def _signal(slot: _Slot, number: int) -> None:
    if slot.process is not None:
        with suppress(ProcessLookupError):
            slot.process.send_signal(number)
