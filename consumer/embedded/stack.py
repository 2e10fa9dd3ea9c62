"""Kafka, Redis and Triton at once: the laptop's stand-in for the real stack."""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from consumer.embedded.kafka import Kafka
from consumer.embedded.mock_kafka import MockKafka
from consumer.embedded.paths import require_linux
from consumer.embedded.preflight import require_stack
from consumer.embedded.redis import Redis
from consumer.embedded.servers import KafkaMode, Servers
from consumer.embedded.triton import Triton

Started = TypeVar("Started")


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
        progress: Is told a line whenever a server answers; from several threads.

    Yields:
        The servers, all of which answer. Where something is missing on this machine, none is started; where one fails,
        the others are stopped. Either way EmbeddedServerError is raised.
    """
    require_linux()
    require_stack(kafka)
    report = progress or (lambda _line: None)
    with contextlib.ExitStack() as stack:
        # Entered first, so closed last: a thread that still waits for a server must see it end before it is joined.
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
