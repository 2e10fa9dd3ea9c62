"""The embedded Kafka: a real Apache Kafka 4.3.0 (KRaft) on the local JVM; one node, or one of several.

`python -m consumer.embedded.kafka` fetches its jars, so that the first start need not.
"""

import contextlib
import os
import re
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from consumer.embedded.paths import cache_folder, free_port
from consumer.embedded.process import EmbeddedServerError, GuardianClient, Server, ServerSpec

VERSION = "4.3.0"
OLDEST_JAVA = 17
INSTALL_COMMAND = f"apt-get install -y maven openjdk-{OLDEST_JAVA}-jre-headless"
_PROBE_TIMEOUT_S = 1.0
_REPLICAS = 3
_FETCH_TIMEOUT_S = 600.0
#: Any 16 bytes in URL-safe base64; the data folder is this run's own.
_CLUSTER_ID = "cGhvdG8tdGFnZ2VyLWxvYw"
_JVM_OPTIONS = (
    *("-Xmx384m", "-Xms96m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"),
    "-XX:-UsePerfData",  # else it leaves a file in /tmp/hsperfdata_* when killed
)
_LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = OUT
appender.out.type = Console
appender.out.name = OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n
"""


@dataclass(frozen=True, slots=True)
class Node:
    """The addresses of one node: where clients connect, and where the other nodes do."""

    broker: str
    controller: str


def new_nodes(count: int) -> tuple[Node, ...]:
    """Addresses on free ports for a cluster of so many nodes."""
    ports: set[int] = set()
    while len(ports) < 2 * count:
        ports.add(free_port())
    addresses = [f"127.0.0.1:{port}" for port in ports]
    return tuple(map(Node, addresses[:count], addresses[count:]))


class Kafka(Server):
    """A Kafka node; its handle is also what the mock offers, so callers need not care which they have."""

    is_mock = False
    #: What the caller should tell the user; empty for the real broker.
    notice = ""

    def __init__(
        self, guardian: GuardianClient, name: str = "kafka", nodes: Sequence[Node] = (), number: int = 1
    ) -> None:
        """Fetches the jars if need be and writes the node's settings; `start` runs it.

        Args:
            guardian: Runs it.
            name: Names the log file.
            nodes: The cluster that it belongs to; by default it is one of its own.
            number: Which of them it is, counted from 1.

        Raises:
            EmbeddedServerError: There is no Java, or there are neither jars nor a Maven to fetch them.
        """
        java = _find_java()
        if java is None:
            message = f"the embedded Kafka needs Java 17 or newer: {INSTALL_COMMAND}"
            raise EmbeddedServerError(message)
        jars = fetch_jars()
        self._nodes = nodes or new_nodes(1)
        self._number = number
        self._home = guardian.folder / name
        self._home.mkdir()
        (self._home / "server.properties").write_text(self._properties(), encoding="utf-8")
        (self._home / "log4j2.properties").write_text(_LOG4J, encoding="utf-8")
        spec = ServerSpec(name, self._command(java, jars), os.environ, self._answers, ready_timeout_s=60.0)
        super().__init__(guardian, spec)

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return self._nodes[self._number - 1].broker

    def _properties(self) -> str:
        controller = self._nodes[self._number - 1].controller
        replicas = min(len(self._nodes), _REPLICAS)
        in_sync = max(1, replicas - 1)
        settings = {
            "process.roles": "broker,controller",
            "node.id": self._number,
            "controller.quorum.voters": ",".join(f"{n}@{node.controller}" for n, node in enumerate(self._nodes, 1)),
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap_servers},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self._home / "data",
            "num.partitions": 4,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            "min.insync.replicas": in_sync,
            # Who may choose to miss a dead member sooner than after 6 s.
            "group.min.session.timeout.ms": 1000,
            "group.initial.rebalance.delay.ms": 0,
            # A second member of a KIP-848 group gets its partitions within a heartbeat; 5 s by default.
            "group.consumer.min.heartbeat.interval.ms": 500,
            "group.consumer.heartbeat.interval.ms": 500,
            # A broker that was killed is refused until its old session ends; 9 s by default.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "auto.create.topics.enable": "false",
            # One segment file of 1 GiB address space per partition is for servers, not for laptops.
            "log.segment.bytes": 64 * 1024 * 1024,
            "log.index.size.max.bytes": 1024 * 1024,
            # Compaction: a buffer of 128 MiB is a third of the heap, and 15 s between two looks is long for a laptop.
            "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
            "log.cleaner.backoff.ms": 200,
        }
        return "".join(f"{key}={value}\n" for key, value in settings.items())

    def _command(self, java: str, jars: Path) -> list[str]:
        settings = str(self._home / "server.properties")
        run = [
            *(java, *_JVM_OPTIONS, f"-Djava.io.tmpdir={self._home}"),
            *(f"-Dlog4j2.configurationFile={self._home / 'log4j2.properties'}", "-cp", f"{jars}/*"),
        ]
        formats = shlex.join([*run, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", settings])
        serves = shlex.join([*run, "kafka.Kafka", settings])
        formatted = shlex.quote(str(self._home / "data" / "meta.properties"))
        return ["/bin/sh", "-c", f"[ -f {formatted} ] || {formats} || exit; exec {serves}"]

    def _answers(self) -> bool:
        return self.known_brokers() > 0

    def known_brokers(self) -> int:
        """How many brokers it tells clients of; 0 while it does not answer, or no controller has admitted it."""
        # Metadata, version 4 (the oldest that Kafka 4 accepts), correlation id 1, no client id, no topics.
        request = struct.pack(">hhihi?", 3, 4, 1, -1, 0, False)  # noqa: FBT003
        try:
            host, port = self.bootstrap_servers.split(":")
            with socket.create_connection((host, int(port)), _PROBE_TIMEOUT_S) as connection:
                connection.sendall(struct.pack(">i", len(request)) + request)
                # Its length, the correlation id, the throttle time, the number of brokers.
                answer = connection.recv(16, socket.MSG_WAITALL)
        except OSError:
            return 0
        return int(struct.unpack(">iiii", answer)[3]) if len(answer) == 16 else 0  # noqa: PLR2004


def jars_folder() -> Path:
    """Returns where the jars are, or will be."""
    return cache_folder() / f"kafka-{VERSION}" / "lib"


def can_run() -> bool:
    """Says whether a real Kafka can start here: a Java that is new enough, and the jars or a Maven that brings them."""
    if missing_packages():
        return False
    try:
        fetch_jars()
    except EmbeddedServerError:
        return False
    return True


def missing_packages() -> list[str]:
    """Returns the Debian packages without which a real Kafka cannot start here."""
    java = _find_java()
    has_java = java is not None and _java_version(java) >= OLDEST_JAVA
    has_jars = jars_folder().is_dir() or shutil.which("mvn") is not None
    return [*([] if has_jars else ["maven"]), *([] if has_java else [f"openjdk-{OLDEST_JAVA}-jre-headless"])]


def fetch_jars() -> Path:
    """Returns the folder of the jars, after downloading them (43 MB) if they are not there yet.

    Raises:
        EmbeddedServerError: There is no Maven, or the download failed; nothing half-made stays.
    """
    folder = jars_folder()
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        message = (
            f"the jars of Kafka {VERSION} are not in {folder}, and there is no Maven to fetch them: {INSTALL_COMMAND}"
        )
        raise EmbeddedServerError(message)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=folder.parent) as draft:
        _run_maven(maven, Path(draft) / "lib")
        # Atomic, so what is there is whole; whoever fetched at the same time and was first has the same files.
        with contextlib.suppress(OSError):
            (Path(draft) / "lib").rename(folder)
    return folder


def _run_maven(maven: str, target: Path) -> None:
    pom = Path(__file__).with_name("pom.xml")
    argv = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
    try:
        done = subprocess.run(
            [*argv, f"-DoutputDirectory={target}", "-DincludeScope=runtime"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_FETCH_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        message = f"fetching the jars of Kafka {VERSION} took more than {_FETCH_TIMEOUT_S:.0f} s"
        raise EmbeddedServerError(message) from error
    if done.returncode != 0 or not list(target.glob("kafka_*.jar")):
        message = f"Maven could not fetch the jars of Kafka {VERSION}:\n{done.stdout[-4000:]}"
        raise EmbeddedServerError(message)


def _find_java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    inside = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    return inside or shutil.which("java")


def _java_version(java: str) -> int:
    """The feature release, such as 17; 0 where it cannot be told."""
    told = subprocess.run([java, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', told.stderr)
    return int(version[1]) if version else 0


def main() -> int:
    """Fetches the jars; returns the exit code."""
    try:
        folder = fetch_jars()
    except EmbeddedServerError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print(f"Kafka {VERSION} is in {folder}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
