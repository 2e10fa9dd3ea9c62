"""The embedded servers: one by one (`Servers`), or Kafka, Redis and Triton at once (`start_stack`)."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from consumer.embedded.kafka import Kafka, can_run
from consumer.embedded.mock_kafka import MockKafka
from consumer.embedded.paths import new_logs_folder, require_linux
from consumer.embedded.preflight import require_libraries, require_stack
from consumer.embedded.process import GuardianClient
from consumer.embedded.redis import Redis
from consumer.embedded.triton import Triton

#: "auto" is the real Kafka where it can run, else the mock.
KafkaMode = Literal["auto", "real", "mock"]

Started = TypeVar("Started")


class Servers:
    """Owns a guardian, its temporary folder and its servers; a context manager that leaves nothing but the logs.

    The `start_*` methods wait until the server answers, or raise EmbeddedServerError with the end of its log; they may
    be called from several threads at once. `name` identifies a server within the run, and names its log file.
    """

    def __init__(self, logs_dir: Path | None = None) -> None:
        """Starts the guardian, which first removes what earlier runs left.

        Args:
            logs_dir: Where logs are written and kept; by default a new folder in the cache, which keeps five.

        Where this is not Linux, or the guardian does not start, it raises EmbeddedServerError.
        """
        require_linux()
        self._logs_lock: int | None = None
        if logs_dir is None:
            logs_dir, self._logs_lock = new_logs_folder()
        self.logs_dir = logs_dir.absolute()
        self.logs_dir.mkdir(parents=True, exist_ok=True)
        self._guardian = GuardianClient(self.logs_dir)

    @property
    def folder(self) -> Path:
        """The run's temporary folder; its name is also the prefix of the run's shared memory."""
        return self._guardian.folder

    @property
    def guardian_pid(self) -> int:
        """The process id of the guardian."""
        return self._guardian.pid

    def start_kafka(self, mode: KafkaMode = "real", name: str = "kafka") -> Kafka | MockKafka:
        """Starts a Kafka; in mode "real" the error for a missing Java says what to install."""
        real = mode == "real" or (mode == "auto" and can_run())
        kafka = Kafka(self._guardian, name) if real else MockKafka(self._guardian, name)
        kafka.start()
        return kafka

    def start_redis(self, name: str = "redis", *, binary: Path | None = None, options: Sequence[str] = ()) -> Redis:
        """Starts an empty Redis; `options` are further arguments of its command line."""
        redis = Redis(self._guardian, name, binary=binary, options=options)
        redis.start()
        return redis

    def start_triton(
        self,
        repository: Path,
        config_name: str = "cpu",
        models: Sequence[str] | None = None,
        name: str = "triton",
        *,
        options: Sequence[str] = (),
    ) -> Triton:
        """Starts a Triton over a model repository, with the given models loaded (all by default).

        A model that fails to load makes the start fail. Others can be loaded and unloaded later, over Triton's API.
        `options` are further arguments of its command line.
        """
        require_libraries()
        triton = Triton(self._guardian, repository, config_name, models, name, options=options)
        triton.start()
        return triton

    def close(self) -> None:
        """Stops every server and waits until nothing is left but the logs."""
        self._guardian.close()
        if self._logs_lock is not None:
            os.close(self._logs_lock)
            self._logs_lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Stack:
    """The running servers."""

    kafka: Kafka | MockKafka
    redis: Redis
    triton: Triton


@contextlib.contextmanager
def start_stack(
    logs_dir: Path | None = None,
    repository: Path = Path("triton_models"),
    kafka: KafkaMode = "auto",
    progress: Callable[[str], None] | None = None,
) -> Iterator[Stack]:
    """Starts all three at the same time, and stops them at the end.

    Args:
        logs_dir: Where logs are kept; by default in the cache.
        repository: Triton's model repository.
        kafka: Which Kafka; "auto" falls back to the mock, whose `notice` is then reported.
        progress: Called with a line when a server answers; from several threads.

    Yields:
        The servers, all of which answer. If something is missing on this machine, none is started; if one fails, the
        others are stopped. Either way EmbeddedServerError is raised.
    """
    require_linux()
    require_stack(kafka)
    report = progress or (lambda _line: None)
    with contextlib.ExitStack() as stack:
        # Entered first, so closed last: a thread that waits for a server sees it end before it is joined.
        pool = stack.enter_context(ThreadPoolExecutor(3, thread_name_prefix="start"))
        servers = stack.enter_context(Servers(logs_dir))

        def timed(name: str, start: Callable[[], Started]) -> Started:
            began_s = time.monotonic()
            server = start()
            report(f"{name} answers after {time.monotonic() - began_s:.1f} s")
            return server

        kafka_starts = pool.submit(timed, "Kafka", lambda: servers.start_kafka(kafka))
        redis_starts = pool.submit(timed, "Redis", servers.start_redis)
        triton_starts = pool.submit(timed, "Triton", lambda: servers.start_triton(repository))
        starts: list[Future[Any]] = [kafka_starts, redis_starts, triton_starts]
        for ended in wait(starts, return_when=FIRST_EXCEPTION).done:
            ended.result()
        running = Stack(kafka_starts.result(), redis_starts.result(), triton_starts.result())
        if running.kafka.notice:
            report(running.kafka.notice)
        yield running
