"""Several workers of one consumer group on one host: each a process of its own, started anew when it ends.

Processes and not threads, because a decode that hangs, a crash in a decoder or a leak then costs one worker. Workers
share nothing but the group: Kafka gives each its partitions. The supervisor ends them with SIGTERM, sees to it that
they do not outlive it (`worker.py`), asks each whether it lives, and answers for all of them over HTTP.
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
from typing import Final

import aiohttp
import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from consumer.service import worker, worker_metrics
from consumer.service.health import Answer, serve
from consumer.settings import Settings, variable_of
from consumer.telemetry import Log, SupervisorMetrics

COMMAND: Final = (sys.executable, "-m", "consumer.cli", "run")

_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 30.0
_PROVEN_S: Final = 60.0
#: What a worker may take after its drain: to leave the group and to flush its producer.
_FAREWELL_S: Final = 15.0
_PROBE_S: Final = 1.0
_PROBE_TIMEOUT_S: Final = 2.0
_HUNG_S: Final = 10.0
_STARTING_S: Final = 90.0


@dataclass(slots=True)
class Backoff:
    """How long to wait before a worker is started again: twice as long each time, until one has lived for a minute."""

    next_s: float = _FIRST_DELAY_S

    def delay_s(self, lived_s: float) -> float:
        """The wait after a worker that lived so long."""
        delay = _FIRST_DELAY_S if lived_s >= _PROVEN_S else self.next_s
        self.next_s = min(2 * delay, _LONGEST_DELAY_S)
        return delay


@dataclass(slots=True)
class _Slot:
    number: int
    backoff: Backoff = field(default_factory=Backoff)
    process: asyncio.subprocess.Process | None = None
    port: int | None = None


class Supervisor:
    """Keeps one process of `command` at work per environment, until it is stopped or one says that none can work.

    A worker that was asked to end is killed after `patience_s`; one that has not answered for `hung_s` is killed too.
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
        """Asks every worker to drain and end."""
        self._stopping.set()

    async def run(self) -> int:
        """Runs the workers; returns 0 when all have drained, the code of the one that none can work with, else 1."""
        self._log.info("workers.started", workers=len(self._slots))
        async with asyncio.TaskGroup() as group:
            for slot in self._slots:
                group.create_task(self._keep(slot))
        self._log.info("workers.stopped", code=self._code)
        return self._code

    async def pages(self, path: str) -> dict[int, tuple[int, str]]:
        """Status and text of one path of every worker; status 0 where it does not answer."""
        timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            pages = await asyncio.gather(*(_page(session, slot.port, path) for slot in self._slots))
        return {slot.number: page for slot, page in zip(self._slots, pages, strict=True)}

    async def not_ready(self) -> list[str]:
        """What is missing until every worker can tag photos.

        Every worker and not one of them: nobody routes photos by this answer, but a rollout waits for it, and a new
        version of which some workers fail must not pass. A worker without partitions is ready: it is on standby.
        """
        pages = await self.pages("/ready")
        waiting = [f"worker {number}: {_reasons(*page)}" for number, page in pages.items() if page[0] != HTTPStatus.OK]
        return [*waiting, "stopping"] if self._stopping.is_set() else waiting

    async def _keep(self, slot: _Slot) -> None:
        while not self._stopping.is_set():
            began_s = monotonic()
            try:
                code = await self._run_once(slot)
            except OSError:  # no process or no memory for another one, which may pass
                code = 1
            if self._stopping.is_set():
                # A worker that was still starting has no handler for the signal, and nothing to drain.
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
        """One life of a worker: its exit code, negative for a signal."""
        ours, theirs = socket.socketpair()
        # Held open while the worker lives: its end is what tells a worker of ours.
        reader, writer = await asyncio.open_connection(sock=ours)
        with closing(theirs), closing(writer):
            environment = {**self._environments[slot.number], worker.VARIABLE: f"{slot.number}:{os.getpid()}"}
            # A group of its own: Ctrl-C in a terminal reaches the supervisor alone, which asks each worker once.
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
        """Kills a worker that no longer answers: its event loop, or all of it, hangs."""
        answered_s = began_s = monotonic()
        timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not self._stopping.is_set():
                await asyncio.sleep(_PROBE_S)
                starting = slot.port is None and monotonic() - began_s < _STARTING_S
                if starting or (await _page(session, slot.port, "/live"))[0] == HTTPStatus.OK:
                    answered_s = monotonic()
                elif monotonic() - answered_s > self._hung_s:
                    self._log.error("worker.hung", worker=slot.number)
                    _signal(slot, signal.SIGKILL)
                    return

    async def _end(self, slot: _Slot) -> None:
        """Once asked to stop: SIGTERM, patience for the drain, SIGKILL."""
        await self._stopping.wait()
        self._log.info("workers.stopping", worker=slot.number)
        _signal(slot, signal.SIGTERM)
        await asyncio.sleep(self._patience_s)
        self._log.error("worker.killed", worker=slot.number, after_s=self._patience_s)
        _signal(slot, signal.SIGKILL)


async def run_workers(settings: Settings, workers: int, log: Log, final_codes: frozenset[int]) -> int:
    """Runs this many workers until SIGTERM or SIGINT, with one health endpoint for all; returns the exit code."""
    environments = [environment_of(settings, number, os.environ) for number in range(workers)]
    supervisor = Supervisor(
        environments, log=log, patience_s=settings.service.drain_timeout_s + _FAREWELL_S, final_codes=final_codes
    )
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.stop)
            stack.callback(loop.remove_signal_handler, number)
        if settings.health.enabled:
            answers: Mapping[str, Answer] = {
                "/live": _live,
                "/ready": _Ready(supervisor),
                "/metrics": _Scrape(supervisor),
            }
            await stack.enter_async_context(serve(settings.health.host, settings.health.port, answers))
        return await supervisor.run()


def environment_of(settings: Settings, number: int, environ: Mapping[str, str]) -> dict[str, str]:
    """What one worker is started with: our environment, a health endpoint of its own, and its name in the group."""
    own = {
        "service.workers": "1",
        "health.enabled": "true",
        "health.host": "127.0.0.1",
        "health.port": "0",
    }
    if settings.kafka.instance_id:
        own["kafka.instance_id"] = f"{settings.kafka.instance_id}-{number}"
    changed = {variable_of(name): value for name, value in own.items()}
    return {name: value for name, value in environ.items() if name.upper() not in changed} | changed


async def _live(_: web.Request) -> web.Response:
    """A worker that hangs is replaced here; only a supervisor that hangs is somebody else's to replace."""
    return web.Response(text="ok\n")


@dataclass(frozen=True, slots=True)
class _Ready:
    supervisor: Supervisor

    async def __call__(self, _: web.Request) -> web.Response:
        reasons = await self.supervisor.not_ready()
        return web.json_response({"ready": not reasons, "waiting_for": reasons}, status=503 if reasons else 200)


@dataclass(frozen=True, slots=True)
class _Scrape:
    supervisor: Supervisor

    async def __call__(self, _: web.Request) -> web.Response:
        pages = {
            n: text
            for n, (status, text) in (await self.supervisor.pages("/metrics")).items()
            if status == HTTPStatus.OK
        }
        merged = worker_metrics.merge(pages, self.supervisor.metrics.registry)
        return web.Response(body=merged, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _page(session: aiohttp.ClientSession, port: int | None, path: str) -> tuple[int, str]:
    if port is None:
        return 0, ""
    try:
        async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError):
        return 0, ""


def _reasons(status: int, body: str) -> str:
    return ", ".join(orjson.loads(body)["waiting_for"]) if status == HTTPStatus.SERVICE_UNAVAILABLE else "not running"


def _signal(slot: _Slot, number: int) -> None:
    if slot.process is not None:
        with suppress(ProcessLookupError):
            slot.process.send_signal(number)
