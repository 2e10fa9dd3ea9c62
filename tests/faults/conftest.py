"""What every fault experiment has: a number and a title, a seed, two sizes, and a place for what it found."""

import json
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
import redis

from consumer.embedded.kafka import Kafka
from consumer.embedded.redis import Redis
from consumer.embedded.servers import Servers
from consumer.embedded.triton import Triton
from tests.fake_models import write_repository
from tests.faults.experiment import Experiment
from tests.harness import RED, PhotoServer, World, make_world

Server = Kafka | Redis | Triton
_NUMBERS = count()

SEED = int(os.environ.get("FAULT_SEED", "1"))
FULL = os.environ.get("FAULT_FULL", "") == "1"
#: Where `scripts/faults` wants a line for each result, and what it adds to each.
RESULTS, ABOUT = os.environ.get("FAULT_RESULTS", ""), os.environ.get("FAULT_ABOUT", "{}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "experiment(number, title): one of the faults of docs/explanation/reliability.md"
    )


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> Experiment:
    """The experiment that the test's marker names; its chances repeat with the seed."""
    number, title = request.node.get_closest_marker("experiment").args
    report: list[tuple[str, object]] = request.node.user_properties
    report += [("experiment", number), ("title", title)]
    return Experiment(FULL, random.Random(f"{SEED} {title}"), lambda name, value: report.append((name, value)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Appends the result of an experiment at its end, so that a run that is killed later has kept it."""
    said = dict(report.user_properties)
    if not RESULTS or "experiment" not in said or not (report.when == "call" or report.failed):
        return
    result = {
        "test": report.nodeid,
        "experiment": said.pop("experiment"),
        "title": said.pop("title"),
        **json.loads(ABOUT),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": round(os.getloadavg()[0], 1),
        "seconds": round(report.duration, 1),
        "passed": report.passed,
        "message": "" if report.passed else _last_line(report),
        "values": [pair for pair in report.user_properties if pair[0] in said],
    }
    with Path(RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(result, ensure_ascii=False) + "\n")


def _last_line(report: pytest.TestReport) -> str:
    """The line of a failure that says what was wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    return text.strip().splitlines()[0][:300].replace("|", "/") if text.strip() else "failed"


@pytest.fixture(scope="module")
def breakable(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Servers of this module's own, to kill."""
    # One process may run several modules, on the same servers else.
    own = f"to-kill-{next(_NUMBERS)}"
    started = {
        "kafka": servers.start_kafka("real", name=f"kafka-{own}"),
        "redis": servers.start_redis(name=f"redis-{own}"),
        "triton": servers.start_triton(write_repository(tmp_path_factory.mktemp("models")), name=f"triton-{own}"),
    }
    yield started
    for server in started.values():
        server.kill()


@pytest.fixture
def fragile(breakable: dict[str, Server], photos: PhotoServer) -> World:
    """A world on the servers that may be killed; all of them run."""
    for server in breakable.values():
        if not server.running:
            server.start()
    kafka, store, triton = breakable["kafka"], breakable["redis"], breakable["triton"]
    with redis.Redis.from_url(store.url) as client:
        client.flushall()
    photos.answers["photo"] = RED
    return make_world(kafka.bootstrap_servers, store.url, triton.grpc_url, photos)
