"""The embedded Kafka: a real Apache Kafka 4.3.0 (KRaft) on the local JVM.

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
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from consumer.embedded.paths import cache_folder, free_port
from consumer.embedded.process import EmbeddedServerError, GuardianClient, Server, ServerSpec, run_command

VERSION = "4.3.0"
OLDEST_JAVA = 17
_JAVA_PACKAGE = "default-jre-headless"
INSTALL_COMMAND = f"apt-get install -y maven {_JAVA_PACKAGE}"
_PROBE_TIMEOUT_S = 1.0
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


def free_addresses(count: int) -> list[str]:
    """Returns different addresses on free ports of 127.0.0.1."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return [f"127.0.0.1:{port}" for port in ports]


class Kafka(Server):
    """A Kafka node; the mock broker has the same interface."""

    is_mock = False
    #: What the user must know of this broker; empty for the real one.
    notice = ""

    def __init__(
        self,
        guardian: GuardianClient,
        name: str = "kafka",
        *,
        addresses: tuple[str, str] | None = None,
        settings: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """Downloads the jars if need be and writes the node's settings; `start` runs it.

        Clients and other nodes connect to the two `addresses`, by default on free ports. `settings` override those of a
        single node.

        Raises:
            EmbeddedServerError: Java, or the jars and the Maven that downloads them, are missing.
        """
        jars = fetch_jars()
        #: Where clients connect.
        self.bootstrap_servers, controller = addresses or free_addresses(2)
        self._home = guardian.folder / name
        self._home.mkdir()
        properties = {**self._single_node(controller), **settings}
        lines = "".join(f"{key}={value}\n" for key, value in properties.items())
        (self._home / "server.properties").write_text(lines, encoding="utf-8")
        (self._home / "log4j2.properties").write_text(_LOG4J, encoding="utf-8")
        spec = ServerSpec(name, self._command(jars), os.environ, self._answers, ready_timeout_s=60.0)
        super().__init__(guardian, spec)

    def _single_node(self, controller: str) -> dict[str, object]:
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap_servers},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self._home / "data",
            "num.partitions": 4,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # Lets a group notice a dead member sooner than after 6 s.
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

    def _command(self, jars: Path) -> list[str]:
        settings = str(self._home / "server.properties")
        run = [
            *(_find_java() or "java", *_JVM_OPTIONS, f"-Djava.io.tmpdir={self._home}"),
            *(f"-Dlog4j2.configurationFile={self._home / 'log4j2.properties'}", "-cp", f"{jars}/*"),
        ]
        formats = shlex.join([*run, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", settings])
        serves = shlex.join([*run, "kafka.Kafka", settings])
        formatted = shlex.quote(str(self._home / "data" / "meta.properties"))
        return ["/bin/sh", "-c", f"[ -f {formatted} ] || {formats} || exit; exec {serves}"]

    def _answers(self) -> bool:
        return self.known_brokers() > 0

    def known_brokers(self) -> int:
        """The number of brokers in its metadata; 0 while it does not answer, or no controller has admitted it."""
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
    """Returns the folder of the jars, which may not exist yet."""
    return cache_folder() / f"kafka-{VERSION}" / "lib"


def can_run() -> bool:
    """Whether a real Kafka can start here; downloads the jars if need be."""
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
    return [*([] if has_jars else ["maven"]), *([] if has_java else [_JAVA_PACKAGE])]


def require_java_and_maven() -> None:
    """Checks for a Java that is new enough, and for the jars or a Maven that downloads them.

    Raises:
        EmbeddedServerError: One of them is missing; one line with the command that installs both.
    """
    if missing_packages():
        message = f"the embedded Kafka needs Java {OLDEST_JAVA} or newer and Maven: {INSTALL_COMMAND}"
        raise EmbeddedServerError(message)


def fetch_jars() -> Path:
    """Returns the folder of the jars, after downloading them (43 MB) if they are missing.

    Raises:
        EmbeddedServerError: Java or Maven is missing, or the download failed; no partial folder stays.
    """
    require_java_and_maven()
    folder = jars_folder()
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=folder.parent) as draft:
        target = Path(draft) / "lib"
        command = ["mvn", "-q", "-B", "-f", str(Path(__file__).with_name("pom.xml")), "dependency:copy-dependencies"]
        failure = f"Maven could not fetch the jars of Kafka {VERSION}"
        run_command([*command, f"-DoutputDirectory={target}", "-DincludeScope=runtime"], _FETCH_TIMEOUT_S, failure)
        if not list(target.glob("kafka_*.jar")):
            raise EmbeddedServerError(failure)
        # Atomic, so that the folder is always complete; a process that fetched at the same time has the same files.
        with contextlib.suppress(OSError):
            target.rename(folder)
    return folder


def _find_java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    inside = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    return inside or shutil.which("java")


def _java_version(java: str) -> int:
    """The feature release, such as 17; 0 if it cannot be read."""
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
