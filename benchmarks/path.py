"""Photos a second through the whole path, on embedded servers: `.venv/bin/python benchmarks/path.py`.

One service process tags the demo's sample photos, read from files, in bursts; servers, producer and service share the
machine's cores. Prints the median of the bursts after the first, and where a photo's time goes. `--profile FILE.svg`
writes a flame graph of the service in the bursts after the first; it needs py-spy (requirements/bench.txt).
"""

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from consumer import events
from consumer.demo.photos import SAMPLES, SUFFIXES
from consumer.embedded.paths import free_port, repository_root
from consumer.embedded.servers import Stack, start_stack
from consumer.kafka import clients
from consumer.kafka.topics import create_topics
from consumer.reader import TagReader
from consumer.topic_names import TopicNames

DEADLINE_S = 120.0


def start_service(stack: Stack, port: int) -> subprocess.Popen[bytes]:
    """The service, reading the sample photos as files; returns when it is ready."""
    settings = {
        "TAGGER_KAFKA__BOOTSTRAP_SERVERS": stack.kafka.bootstrap_servers,
        "TAGGER_REDIS__URL": stack.redis.url,
        "TAGGER_TRITON__URL": stack.triton.grpc_url,
        "TAGGER_FETCH__SCHEMES": "file",
        "TAGGER_FETCH__FILE_ROOT": str(SAMPLES),
        "TAGGER_HEALTH__PORT": str(port),
        "TAGGER_LOG__LEVEL": "warning",
        # The bursts repeat a few photos, and every one is to be judged.
        "TAGGER_DEDUPE__ENABLED": "false",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "consumer.cli", "run", "--workers", "1"], env={**os.environ, **settings}
    )
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1)
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.05)
        else:
            return process


def burst(stack: Stack, name: str, count: int) -> float:
    """Sends `count` events at once and returns the seconds until the last has its tags."""
    files = sorted(path for path in SAMPLES.iterdir() if path.suffix in SUFFIXES)
    producer = clients.producer_client(stack.kafka.bootstrap_servers, {})
    clients.require_topics(producer, stack.kafka.bootstrap_servers, [TopicNames().uploads])
    ids = [f"{name}-{number}" for number in range(count)]
    began = time.perf_counter()
    for number, photo_id in enumerate(ids):
        event = events.PhotoUploaded(photo_id, files[number % len(files)].as_uri(), datetime.now(UTC))
        producer.produce(TopicNames().uploads, events.encode(event), photo_id)
    producer.flush()
    with TagReader(stack.redis.url) as reader:
        while len(reader.get_many(ids[-64:])) < len(ids[-64:]) or len(reader.get_many(ids)) < count:
            if time.perf_counter() - began > DEADLINE_S:
                raise TimeoutError(f"{name} was not tagged within {DEADLINE_S} s")
            time.sleep(0.02)
    return time.perf_counter() - began


def stage_table(port: int) -> list[tuple[str, float]]:
    """Mean milliseconds of each stage, waiting for its turn included."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for sample in families["tagger_stage_duration_seconds"].samples:
        target = {"_sum": sums, "_count": counts}.get(sample.name.removeprefix("tagger_stage_duration_seconds"))
        if target is not None:
            target[sample.labels["stage"]] = sample.value
    return [(stage, 1000 * total / counts[stage]) for stage, total in sums.items() if counts[stage]]


@contextlib.contextmanager
def profiled(service: subprocess.Popen[bytes], output: Path | None) -> Iterator[None]:
    """Writes a flame graph of what the service does meanwhile, if `output` is given.

    Only samples that hold the interpreter count: without that, threads that wait in C make up most of them. So what
    decodes, in C and without the interpreter, is not in the graph.

    Yields:
        Nothing.
    """
    if output is None:
        yield
        return
    profiler = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if profiler is None:
        sys.exit("py-spy is missing: `make profile` installs it")
    options = ["--gil", "--rate", "200", "--duration", "unlimited", "--output", str(output), "--pid", str(service.pid)]
    with subprocess.Popen([profiler, "record", *options]) as recording:
        try:
            yield
        finally:
            recording.send_signal(signal.SIGINT)


def main() -> None:
    """Runs the bursts and prints their rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=600, help="photos in one burst")
    parser.add_argument("--bursts", type=int, default=5, help="bursts; the first one warms up")
    parser.add_argument("--profile", type=Path, help="write a flame graph of the bursts after the first to this SVG")
    arguments = parser.parse_args()
    port = free_port()
    with start_stack(None, repository_root() / "triton_models", "real") as stack:
        create_topics(stack.kafka.bootstrap_servers, TopicNames())
        service = start_service(stack, port)
        try:
            rates = [arguments.photos / burst(stack, "burst0", arguments.photos)]
            with profiled(service, arguments.profile):
                rates += [
                    arguments.photos / burst(stack, f"burst{number}", arguments.photos)
                    for number in range(1, arguments.bursts)
                ]
            stages = stage_table(port)
        finally:
            service.terminate()
            service.wait()
    shown = ", ".join(f"{rate:.0f}" for rate in rates)
    print(f"photos/s of each burst: {shown}; median after the first: {statistics.median(rates[1:]):.0f}")
    for stage, mean_ms in stages:
        print(f"  {stage:<8} {mean_ms:8.1f} ms a photo, waiting for its turn included")


if __name__ == "__main__":
    main()
