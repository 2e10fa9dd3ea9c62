"""A real schema registry on loopback: Apicurio Registry, which speaks Confluent's protocol, in memory.

`python -m tests.registry_server` brings it from Maven Central (109 MB), once.
"""

import os
import shutil
import sys
import tarfile
import tempfile
import urllib.request
from contextlib import suppress
from pathlib import Path

from consumer.embedded.kafka import free_addresses, require_java_and_maven
from consumer.embedded.paths import cache_folder
from consumer.embedded.process import EmbeddedServerError, GuardianClient, Server, ServerSpec, run_command

VERSION = "3.0.9"
_NAME = f"apicurio-registry-app-{VERSION}"
_JVM = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def folder() -> Path:
    """Where its jars are; the folder is missing until they were fetched."""
    return cache_folder() / f"apicurio-registry-{VERSION}"


def fetch() -> None:
    """Fetches the jars, unless they are there; raises EmbeddedServerError where that fails."""
    if folder().is_dir():
        return
    require_java_and_maven()
    folder().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=folder().parent) as draft:
        artifact = f"-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
        command = ["mvn", "-q", "-B", "dependency:copy", artifact, f"-DoutputDirectory={draft}"]
        run_command(command, 600.0, f"Maven could not fetch Apicurio Registry {VERSION}")
        unpacked = Path(draft) / "unpacked"
        with tarfile.open(Path(draft) / f"{_NAME}-all.tar.gz") as archive:
            archive.extractall(unpacked, filter="data")
        # Atomic; a process that fetched at the same time has the same files.
        with suppress(OSError):
            unpacked.rename(folder())


class RegistryServer(Server):
    """The registry; it keeps nothing beyond its process."""

    def __init__(self, guardian: GuardianClient, name: str = "registry") -> None:
        (address,) = free_addresses(1)
        host, _, port = address.partition(":")
        #: What clients of Confluent's protocol are given.
        self.url = f"http://{address}/apis/ccompat/v7"
        home = guardian.folder / name
        home.mkdir()
        command = [
            *(shutil.which("java") or "java", *_JVM, f"-Djava.io.tmpdir={home}"),
            *(f"-Dquarkus.http.host={host}", f"-Dquarkus.http.port={port}", "-jar", f"{folder() / _NAME}-runner.jar"),
        ]
        super().__init__(guardian, ServerSpec(name, command, os.environ, self._answers, ready_timeout_s=90.0))

    def _answers(self) -> bool:
        try:
            with _DIRECT.open(f"{self.url}/subjects", timeout=1):
                return True
        except OSError:
            return False


if __name__ == "__main__":
    try:
        fetch()
    except EmbeddedServerError as error:
        sys.exit(str(error))
