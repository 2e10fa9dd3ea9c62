"""The demo from end to end: servers, topics, service, events, outcomes, the answer in Redis, the gallery."""

import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from consumer.demo import checks, page, traffic
from consumer.demo.errors import BadFolder, DemoFailed
from consumer.demo.failing import write_failing
from consumer.demo.photos import SAMPLES, DemoPhoto, Found, find_photos, plan
from consumer.demo.report import Reporter
from consumer.demo.service import Service
from consumer.demo.statistics import numbers_of
from consumer.embedded.environment import prepare_servers_environment
from consumer.embedded.mock_kafka import MockKafka
from consumer.embedded.paths import model_repository
from consumer.embedded.photos import PhotoHost
from consumer.embedded.process import EmbeddedServerError, GuardianClient
from consumer.embedded.servers import Stack, start_stack
from consumer.errors import TaggerError
from consumer.events import Tags
from consumer.kafka.topics import TopicNames
from consumer.reader import TagReader
from consumer.web import gallery

_PATIENCE_S: Final = 60.0
_PROBLEMS_SHOWN: Final = 10
_OK, _FAILED, _USAGE, _INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class _Job:
    """What one run works on."""

    found: Found
    output: Path
    report: Reporter
    samples: bool
    names: TopicNames

    @property
    def logs(self) -> Path:
        return self.output / "logs"

    @property
    def gallery(self) -> Path:
        return self.output / "gallery.html"

    @property
    def environment(self) -> Path:
        return self.output / "env.sh"


@dataclass(frozen=True, slots=True)
class _Results:
    """What the servers gave."""

    photos: list[DemoPhoto]
    ledger: traffic.Ledger
    stored: dict[str, Tags]
    pictures: dict[str, str | None]
    notice: str
    settings: Mapping[str, str]


def run_demo(
    photos: Path | None, output: Path, kafka: Literal["auto", "real", "mock"] = "auto", *, keep: bool = False
) -> int:
    """Tags photos end to end on embedded servers and writes `gallery.html` and `logs/` into `output`.

    Leaves nothing else behind, also when it is interrupted or killed: every process stands under a guardian.

    Args:
        photos: A folder of the user's own; the built-in samples by default.
        output: Is made if need be.
        kafka: Which Kafka; "auto" is the real one where it can run.
        keep: Leaves everything up until Ctrl-C, with its settings in `env.sh` for other programs.

    Returns:
        The exit code: 0 if every photo got the outcome that it should, in the result topic and in Redis alike; 1 if
        not, or if a server failed; 2 if the photos or the output folder cannot be used; 130 after Ctrl-C.
    """
    report = Reporter()
    # The servers run in folders of their own.
    output = output.resolve()
    try:
        with _terminable():
            job = _Job(find_photos(photos or SAMPLES), output, report, photos is None, TopicNames())
            _prepare_output(job)
            with _served(job, kafka) as results:
                code = _finish(job, results)
                if keep:
                    _hold(job, results.settings)
            return code
    except BadFolder as error:
        report.problem(str(error))
        return _USAGE
    except KeyboardInterrupt:
        report.note("stopped; nothing is left running")
        return _INTERRUPTED
    except (TaggerError, EmbeddedServerError) as error:
        logs = output / "logs"
        report.problem(f"{error}\nlogs: {logs}" if any(logs.glob("*")) else str(error))
        return _FAILED


@contextlib.contextmanager
def _served(job: _Job, kafka: Literal["auto", "real", "mock"]) -> Iterator[_Results]:
    """Everything that needs the servers.

    Yields:
        What came out; the servers are up until the context ends.
    """
    report = job.report
    own = "sample photos" if job.samples else f"photos from {job.found.folder}"
    report.title(f"photo-tagger demo: {len(job.found.paths)} {own}, and four that must fail")
    for note in job.found.notes:
        report.note(note)
    prepare_servers_environment(kafka, report.step)
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(start_stack(job.logs, model_repository(), kafka, partial(_say, report)))
        guardian = stack.enter_context(GuardianClient(job.logs))
        failing = guardian.folder / "failing"
        failing.mkdir()
        host = stack.enter_context(PhotoHost(job.found.folder))
        failing_host = stack.enter_context(PhotoHost(failing))
        photos = plan(job.found, host.base_url, write_failing(failing), failing_host.base_url)
        traffic.prepare_topics(servers.kafka.bootstrap_servers, job.names, is_mock=servers.kafka.is_mock)
        report.step(f"topics {job.names.uploads}, {job.names.tags}, {job.names.dead}")
        service = Service(guardian, servers, job.names, [host.base_url, failing_host.base_url])
        _start(service, report)
        ledger = _tag(job, servers, service, photos)
        stored = _read_back(servers.redis.url, photos)
        report.step(f"read the tags of {len(stored)} photos back from Redis")
        with report.progress("drawing", len(photos)) as advance:
            pictures = page.draw(photos, ledger, advance)
        yield _Results(photos, ledger, stored, pictures, servers.kafka.notice, service.settings)


def _hold(job: _Job, settings: Mapping[str, str]) -> None:
    """Waits for Ctrl-C; meanwhile `env.sh` gives another terminal the settings and the commands."""
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}$PATH"}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    lines += [f'export {name}="{value}"' for name, value in path.items()]
    job.environment.write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        job.report.holding(job.environment, settings["TAGGER_REDIS__URL"])
        threading.Event().wait()
    except KeyboardInterrupt:
        job.report.note("stopping")
    finally:
        job.environment.unlink(missing_ok=True)


def _say(report: Reporter, line: str) -> None:
    """Passes on what the servers report; a stand-in for one of them must not look like a success."""
    (report.note if line == MockKafka.notice else report.step)(line)


def _start(service: Service, report: Reporter) -> None:
    began_s = time.monotonic()
    service.start()
    report.step(f"the service is ready after {time.monotonic() - began_s:.1f} s")


def _tag(job: _Job, servers: Stack, service: Service, photos: list[DemoPhoto]) -> traffic.Ledger:
    """Publishes the events and waits for their outcomes."""

    def still_running() -> None:
        if not service.running:
            raise DemoFailed(f"the service has ended; its log is {service.log_path}")

    ledger = traffic.Ledger()
    kafka = servers.kafka.bootstrap_servers
    with job.report.progress("tagging", len(photos)) as advance:
        traffic.publish(kafka, job.names, photos, ledger)
        for _ in traffic.watch(kafka, job.names, ledger, _PATIENCE_S, still_running):
            advance()
    return ledger


def _read_back(redis_url: str, photos: list[DemoPhoto]) -> dict[str, Tags]:
    """What Redis answers to a reader, by photo id."""
    with TagReader(redis_url) as reader:
        return reader.get_many(photo.photo_id for photo in photos)


def _finish(job: _Job, results: _Results) -> int:
    """Writes the gallery, says what came out, and judges it."""
    ledger, report = results.ledger, job.report
    numbers = numbers_of(ledger)
    tagged, dead = page.sort_out(results.photos, ledger, results.stored, results.pictures)
    summary = page.summary_of(numbers, results.stored, results.notice)
    page.write(job.gallery, gallery.render(tagged, dead, summary))
    report.results(tagged, dead)
    report.summary(numbers, job.gallery, job.logs)
    problems = checks.problems_of(results.photos, ledger, results.stored, all_tagged=job.samples)
    if problems:
        report.problem("\n".join([f"{len(problems)} things are wrong:", *problems[:_PROBLEMS_SHOWN]]))
    return _FAILED if problems else _OK


def _prepare_output(job: _Job) -> None:
    """Makes the folders; servers append to their logs, so those of an earlier run go first.

    Raises:
        BadFolder: Nothing can be written there.
    """
    try:
        job.logs.mkdir(parents=True, exist_ok=True)
        for old in job.logs.glob("*.log"):
            old.unlink()
    except OSError as error:
        raise BadFolder(f"cannot write into {job.output}: {error}") from error


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Makes SIGTERM end the demo as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
