"""Who is compared, and how each is started: the service, scripts, and frameworks in environments of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import cores
from consumer.contract import Geometry
from consumer.embedded.paths import cache_folder, repository_root
from consumer.embedded.process import GuardianClient, Server, ServerSpec
from consumer.embedded.servers import Stack
from consumer.topic_names import TopicNames

ROOT = repository_root() or Path.cwd()
UV = Path(sys.executable).with_name("uv")
#: The package of a framework, and the oldest Python that it runs on where that is newer than ours.
_PACKAGES = {
    "faststream": ("faststream", None),
    "quix": ("quixstreams", None),
    "pyrallel": ("pyrallel-consumer", "3.12"),
    "bytewax": ("bytewax", None),
}
OURS, OVERLAPPED = "ours", "overlapped"
_SCRIPTS = {"sequential": "sequential loop", "batch": "batch loop", OVERLAPPED: "overlapped batch loop"}
NAMES = (OURS, *_SCRIPTS, *_PACKAGES)
FRAMEWORKS = tuple(_PACKAGES)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contender works: servers, topics, its consumer group, and the only folder of photos that it may read."""

    stack: Stack
    topics: TopicNames
    group: str
    photos: Path


class LeftOut(Exception):
    """A contender cannot be compared here; the message says why."""


def title(name: str) -> str:
    """What the tables call a contender; a framework with its version."""
    if name in _PACKAGES:
        package, _ = _PACKAGES[name]
        lines = _requirements(name).read_text().splitlines()
        return next(line for line in lines if line.startswith(f"{package}==")).replace("==", " ")
    return _SCRIPTS.get(name, name)


def prepare(name: str) -> None:
    """Makes the environment of a framework, once for each content of its requirements.

    Raises:
        LeftOut: it cannot be made here.
    """
    if name not in _PACKAGES:
        return
    folder, wanted = _environment(name), _requirements(name).read_text()
    stamp = folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    python = _PACKAGES[name][1] or f"{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = str(folder / "bin" / "python")
    for arguments in (
        ("venv", "--clear", "--python", python, str(folder)),
        ("pip", "install", "--no-deps", "--python", interpreter, "-r", str(_requirements(name))),
    ):
        done = subprocess.run([UV, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LeftOut(f"{title(name)}: `uv {' '.join(arguments)}` failed: {done.stderr.strip()[-600:]}")
    stamp.write_text(wanted)


def contender(guardian: GuardianClient, name: str, place: Place, tag: str, *command: str) -> Server:
    """A contender, not started; it reads its topic from the beginning. `command` is another of the service than run."""
    python = str(_environment(name) / "bin" / "python") if name in _PACKAGES else sys.executable
    module = f"benchmarks.peers.{name}"
    arguments = {
        OURS: ["consumer.cli", *(command or ("run",))],
        "faststream": ["faststream", "run", f"{module}:app"],
        "bytewax": ["bytewax.run", "-w", str(cores()), f"{module}:flow"],
    }.get(name, [module])
    settings = _settings(place) if name == OURS else {"BENCH_PEER": json.dumps(_peer(place))}
    return child(guardian, tag, [python, "-m", *arguments], settings)


def child(
    guardian: GuardianClient,
    tag: str,
    argv: list[str],
    settings: Mapping[str, str] | None = None,
    answers: Callable[[], bool] = lambda: True,
) -> Server:
    """A process that ends with the benchmark, however that ends; not started."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(settings or {})}
    return Server(guardian, ServerSpec(tag, argv, environment, answers, stop_timeout_s=15.0))


@dataclass(frozen=True, slots=True)
class Reference:
    """What is served, and the score and the probabilities of photos by name, each judged alone."""

    geometries: Mapping[str, Geometry]
    models: Mapping[str, str]
    photos: Mapping[str, Mapping[str, Any]]


def reference(place: Place, names: list[str]) -> Reference:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.reference", str(place.photos), *names],
        env={**os.environ, "PYTHONPATH": str(ROOT), "BENCH_PEER": json.dumps(_peer(place))},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    geometries = {name: Geometry(**sides) for name, sides in told["geometries"].items()}
    return Reference(geometries, told["models"], told["photos"])


def _settings(place: Place) -> dict[str, str]:
    kafka = {
        "BOOTSTRAP_SERVERS": place.stack.kafka.bootstrap_servers,
        "GROUP_ID": place.group,
        "UPLOADS_TOPIC": place.topics.uploads,
        "TAGS_TOPIC": place.topics.tags,
        "DEAD_TOPIC": place.topics.dead,
        "RETRY_TOPIC": place.topics.retry,
    }
    return {f"TAGGER_KAFKA__{name}": value for name, value in kafka.items()} | {
        "TAGGER_REDIS__URL": place.stack.redis.url,
        "TAGGER_TRITON__URL": place.stack.triton.grpc_url,
        "TAGGER_FETCH__SCHEMES": "file,http",
        "TAGGER_FETCH__FILE_ROOT": str(place.photos),
        "TAGGER_FETCH__ALLOW_ADDRESSES": "127.0.0.0/8",
        "TAGGER_HEALTH__PORT": "0",
        "TAGGER_LOG__LEVEL": "warning",
        "TAGGER_SERVICE__WORKERS": "1",
        # Bursts repeat a few photos, and every one is to be judged.
        "TAGGER_DEDUPE__ENABLED": "false",
    }


def _peer(place: Place) -> dict[str, str]:
    return {
        "kafka": place.stack.kafka.bootstrap_servers,
        "redis": place.stack.redis.url,
        "triton": place.stack.triton.grpc_url,
        "uploads": place.topics.uploads,
        "tags": place.topics.tags,
        "group": place.group,
    }


def _environment(name: str) -> Path:
    return cache_folder() / "bench" / name


def _requirements(name: str) -> Path:
    return ROOT / "requirements" / f"bench-{name}.txt"
