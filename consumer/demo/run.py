"""The demo from end to end: servers, topics, service, events, outcomes, tags in Redis, a change of models, gallery."""

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
from typing import Final

from consumer.demo import page, traffic
from consumer.demo.change import NAME as CHANGE
from consumer.demo.change import ModelChange
from consumer.demo.failing import write_failing
from consumer.demo.ledger import Ledger, numbers_of, problems_of
from consumer.demo.photos import SAMPLES, BadFolder, DemoPhoto, Found, find_photos, plan
from consumer.demo.report import Reporter, Shown
from consumer.demo.service import Service, WebPage
from consumer.embedded.environment import prepare_servers_environment
from consumer.embedded.mock_kafka import MARK
from consumer.embedded.paths import model_repository
from consumer.embedded.photos import PhotoHost
from consumer.embedded.process import EmbeddedServerError, GuardianClient
from consumer.embedded.servers import KafkaMode, Stack, start_stack
from consumer.errors import TaggerError
from consumer.events import Tags
from consumer.reader import TagReader
from consumer.topic_names import TopicNames

_PATIENCE_S: Final = 60.0
_PROBLEMS_SHOWN: Final = 10
_OK, _FAILED, _INTERRUPTED = 0, 1, 130


def run_demo(
    photos: Path | None,
    output: Path,
    kafka: KafkaMode = "auto",
    *,
    models: Path | None = None,
    keep: bool = False,
    as_json: bool = False,
) -> int:
    """Tags photos end to end on embedded servers and writes `gallery.html` and `logs/` into `output`.

    Where the repository has several versions of a model, the newest takes the place of the one before it at the end, by
    a run that is compared and promoted: `change.html` and `change.json` say what that changes.

    Leaves nothing else behind, also when it is interrupted or killed: every process runs under a guardian.

    Args:
        photos: A folder of the user's own; the built-in samples by default.
        output: Created if need be.
        models: The Triton model repository; by default that of the project.
        kafka: Which Kafka; "auto" is the real one where it can run.
        keep: Leaves everything running until Ctrl-C, with a web page, and its settings in `env.sh` for other programs.
        as_json: Reports on standard error, and writes the outcome to standard output as a line of JSON.

    Returns:
        The exit code: 0 if every photo got the expected outcome, the same in the result topic and in Redis; 1 if not,
        or if a server failed; 130 after Ctrl-C.

    Raises:
        BadFolder: the photos, the models or the output folder cannot be used.
    """
    report = Reporter(as_json=as_json)
    # The servers run in folders of their own.
    output = output.resolve()
    logs = output / "logs"
    try:
        with _terminable():
            found = find_photos(photos or SAMPLES)
            repository = _repository(models)
            _prepare_output(output, logs)
            own = "sample photos" if photos is None else f"photos from {found.folder}"
            report.title(f"photo-tagger demo: {len(found.paths)} {own}, and four that must fail")
            for note in found.notes:
                report.note(note)
            prepare_servers_environment(kafka, report.step)
            own_models = models is not None
            return _run(
                found, repository, output, report, kafka, all_tagged=photos is None and not own_models, keep=keep
            )
    except BadFolder:
        raise
    except KeyboardInterrupt:
        report.note("stopped; nothing is left running")
        return _INTERRUPTED
    except (TaggerError, EmbeddedServerError) as error:
        report.problem(f"{error}\nlogs: {logs}" if any(logs.glob("*")) else str(error))
        return _FAILED


def _run(
    found: Found, repository: Path, output: Path, report: Reporter, kafka: KafkaMode, *, all_tagged: bool, keep: bool
) -> int:
    """Everything that needs the servers; returns the exit code."""
    logs, names = output / "logs", TopicNames()
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(start_stack(logs, repository, kafka, partial(_report_line, report)))
        guardian = stack.enter_context(GuardianClient(logs))
        failing = guardian.folder / "failing"
        failing.mkdir()
        host = stack.enter_context(PhotoHost(found.folder))
        failing_host = stack.enter_context(PhotoHost(failing))
        photos = plan(found, host.base_url, write_failing(failing), failing_host.base_url)
        traffic.prepare_topics(servers.kafka.bootstrap_servers, names, is_mock=servers.kafka.is_mock)
        report.step(f"topics {names.uploads}, {names.tags}, {names.dead}")
        service = Service(guardian, servers, names, [host.base_url, failing_host.base_url], repository)
        change = ModelChange(service.settings, output, report)
        if servers.kafka.is_mock:
            report.note("no change of models is shown: it needs the groups and the compaction of a real Kafka")
        else:
            change.begin()
        began_s = time.monotonic()
        service.start()
        report.step(f"the service is ready after {time.monotonic() - began_s:.1f} s")
        shown = _show(_Running(servers, service, names, photos, report), change, output, all_tagged=all_tagged)
        if problems := shown.problems:
            count = "1 thing is wrong:" if len(problems) == 1 else f"{len(problems)} things are wrong:"
            report.problem("\n".join([count, *problems[:_PROBLEMS_SHOWN]]))
        if keep:
            web = WebPage(guardian, service.settings)
            web.start()
            _hold(output / "env.sh", service.settings, web.url, report, shown)
        else:
            report.outcome(shown)
    return _FAILED if shown.problems else _OK


def _repository(models: Path | None) -> Path:
    """The model repository to serve, whose configurations for the CPU are used.

    Raises:
        BadFolder: there is none.
    """
    if models is None:
        return model_repository()
    folder = models.resolve()
    if not any(folder.glob("*/config.pbtxt")) and not any(folder.glob("*/configs/cpu.pbtxt")):
        raise BadFolder(
            f"{folder} is no model repository: no folder in it has a config.pbtxt or configs/cpu.pbtxt",
            setting="--models",
        )
    return folder


@dataclass(frozen=True, slots=True)
class _Running:
    """What runs, and what it is to tag."""

    servers: Stack
    service: Service
    names: TopicNames
    photos: list[DemoPhoto]
    report: Reporter


def _show(running: _Running, change: ModelChange, output: Path, *, all_tagged: bool) -> Shown:
    """Tags the photos, changes the models, and shows what is in force then."""
    servers, photos, report = running.servers, running.photos, running.report
    ledger = _tag(running)
    stored = _read_tags(servers.redis.url, photos)
    report.step(f"read the tags of {len(stored)} photos back from Redis")
    problems = problems_of(photos, ledger, stored, all_tagged=all_tagged)
    page_path = output / "gallery.html"
    with report.progress("drawing", len(photos)) as advance:
        pictures = page.draw(photos, ledger, advance)
    write = partial(page.write, page_path, photos, ledger, pictures, notice=servers.kafka.notice)
    # Whatever becomes of the change, there is a gallery; it is written again with the tags in force after it.
    write(stored)
    change.carry_out(running.service.require_running)
    stored = _read_tags(servers.redis.url, photos)
    tagged, dead = write(stored, change=change.link)
    report.results(tagged, dead)
    problems += change.problems(photos, ledger, stored, all_tagged=all_tagged)
    shown = Shown(numbers_of(ledger), page_path, change.link, output / "logs", list(dict.fromkeys(problems)))
    report.summary(shown)
    return shown


def _tag(running: _Running) -> Ledger:
    """Publishes the events and waits for their outcomes."""
    kafka, names, photos = running.servers.kafka.bootstrap_servers, running.names, running.photos
    ledger = Ledger()
    with running.report.progress("tagging", len(photos)) as advance:
        traffic.publish(kafka, names, photos, ledger)
        for _ in traffic.watch(kafka, names, ledger, _PATIENCE_S, running.service.require_running):
            advance()
    return ledger


def _read_tags(redis_url: str, photos: list[DemoPhoto]) -> dict[str, Tags]:
    with TagReader(redis_url) as reader:
        return reader.get_many(photo.photo_id for photo in photos)


def _hold(environment: Path, settings: Mapping[str, str], web: str, report: Reporter, shown: Shown) -> None:
    """Waits for Ctrl-C; meanwhile there is a web page, and `env.sh` gives another terminal settings and commands."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    lines.append(f'export PATH="{Path(sys.executable).parent}{os.pathsep}$PATH"')
    environment.write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        report.holding(environment, settings["TAGGER_REDIS__URL"], web)
        report.outcome(shown, web=web, environment=environment)
        threading.Event().wait()
    except KeyboardInterrupt:
        report.note("stopping")
    finally:
        environment.unlink(missing_ok=True)


def _report_line(report: Reporter, line: str) -> None:
    """Passes on what the servers report; the mock broker must not look like a success."""
    (report.note if line.startswith(MARK) else report.step)(line)


def _prepare_output(output: Path, logs: Path) -> None:
    """Creates the folders, and deletes what a demo before left: logs are appended to, and not every one has a change.

    Raises:
        BadFolder: Nothing can be written there.
    """
    try:
        logs.mkdir(parents=True, exist_ok=True)
        for old in (*logs.glob("*.log"), *(output / f"{CHANGE}{suffix}" for suffix in (".html", ".json"))):
            old.unlink(missing_ok=True)
    except OSError as error:
        raise BadFolder(f"cannot write into {output}: {error.strerror}", setting="--output") from None


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
