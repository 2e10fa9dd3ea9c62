"""The service with the settings of its pod, where nothing that it needs is there yet."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consumer.embedded.paths import free_port
from tests.harness import eventually
from tests.harness_process import ROOT, RunningTagger
from tests.kubernetes_objects import settings_of, workload
from tests.kustomization import Object, built

OBJECTS = built(ROOT / "deploy/kubernetes/overlays/cpu")


@contextmanager
def started(container: Object, folder: Path) -> Iterator[RunningTagger]:
    """The container's command with its settings, on a port that is free here, and its secrets in a folder."""
    (secrets,) = (mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "secrets")
    (folder / "redis-url").write_text("redis://redis.invalid:6379/0\n")
    given = {name: value.replace(secrets, str(folder)) for name, value in settings_of(OBJECTS, container).items()}
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAGGER_")}
    environment |= {**given, "TAGGER_HEALTH__PORT": str(port), "PYTHONPATH": str(ROOT)}
    log_path = folder / "log"
    with log_path.open("wb") as log:
        command = [sys.executable, "-m", "consumer.cli", *container["args"]]
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        yield RunningTagger(process, log_path, port)
    finally:
        process.kill()
        process.wait()


async def test_a_pod_lives_and_is_not_ready_while_its_servers_are_missing_and_stops_in_time(tmp_path: Path) -> None:
    spec, container = workload(OBJECTS, "consumer")
    startup, ready = container["startupProbe"], container["readinessProbe"]["httpGet"]["path"]
    with started(container, tmp_path) as tagger:

        def lives() -> bool:
            assert tagger.process.poll() is None, tagger.log_path.read_text()
            return tagger.get(startup["httpGet"]["path"])[0] == 200

        await eventually(lives, deadline_s=startup["periodSeconds"] * startup["failureThreshold"])
        await eventually(lambda: "redis.invalid:6379" in tagger.get(ready)[1])
        assert tagger.get(ready)[0] == 503
        code, seconds = tagger.terminate(signal.SIGTERM)
        assert code == 0
        assert seconds < spec["template"]["spec"]["terminationGracePeriodSeconds"]
