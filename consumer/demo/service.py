"""The service and its web page as child processes, configured as an operator would: by environment variables alone."""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from consumer.demo.traffic import DemoFailed
from consumer.embedded.paths import free_port
from consumer.embedded.process import GuardianClient, Server, ServerSpec, responds_ok
from consumer.embedded.servers import Stack
from consumer.topic_names import TopicNames

_READY_TIMEOUT_S: Final = 60.0
#: More than the service takes to finish the photos in work.
_STOP_TIMEOUT_S: Final = 15.0


class Service(Server):
    """The service under a guardian; it ends with the demo."""

    def __init__(
        self,
        guardian: GuardianClient,
        stack: Stack,
        names: TopicNames,
        photo_hosts: Sequence[str],
        repository: Path,
    ) -> None:
        """Chooses a free port for the probes; `start` runs it and waits until it is ready.

        `photo_hosts` are the base URLs on loopback that photos may be fetched from.
        """
        health_port = free_port()
        #: Settings with which another program uses the same servers and topics.
        self.settings = {
            "TAGGER_KAFKA__BOOTSTRAP_SERVERS": stack.kafka.bootstrap_servers,
            "TAGGER_KAFKA__UPLOADS_TOPIC": names.uploads,
            "TAGGER_KAFKA__TAGS_TOPIC": names.tags,
            "TAGGER_KAFKA__DEAD_TOPIC": names.dead,
            "TAGGER_KAFKA__RETRY_TOPIC": names.retry,
            # The user may try a folder of bad photos.
            "TAGGER_SERVICE__DEAD_LETTER_LIMIT": "0",
            # The user is not to wait minutes for a host to come back.
            "TAGGER_RETRY__ROUNDS": "0",
            "TAGGER_FETCH__NOT_FOUND_GRACE_S": "0",
            "TAGGER_REDIS__URL": stack.redis.url,
            "TAGGER_TRITON__URL": stack.triton.grpc_url,
            # For operators: the service itself reads no folder.
            "TAGGER_TRITON__REPOSITORY": str(repository),
            "TAGGER_FETCH__SCHEMES": "http",
            "TAGGER_FETCH__ALLOW_ADDRESSES": ",".join(urlsplit(url).netloc for url in photo_hosts),
            # For `photo-tagger ready`.
            "TAGGER_HEALTH__PORT": str(health_port),
        }
        # On any machine: it has few photos, and shares the cores with the servers.
        env = _environment({**self.settings, "TAGGER_SERVICE__WORKERS": "1"})
        argv = [sys.executable, "-m", "consumer.cli", "run"]
        answers = partial(responds_ok, health_port, "/ready")
        super().__init__(guardian, ServerSpec("service", argv, env, answers, _READY_TIMEOUT_S, _STOP_TIMEOUT_S))

    def require_running(self) -> None:
        """Looks whether it still runs.

        Raises:
            DemoFailed: It has ended.
        """
        if not self.running:
            raise DemoFailed(f"the service has ended; its log is {self.log_path}")


class WebPage(Server):
    """`photo-tagger web` under a guardian, on these settings; dead letters can be sent again."""

    def __init__(self, guardian: GuardianClient, settings: Mapping[str, str]) -> None:
        """Chooses a free port; `start` runs it and waits until it answers."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        argv = [sys.executable, "-m", "consumer.cli", "web", "--port", str(port), "--allow-changes"]
        answers = partial(responds_ok, port, "/live")
        spec = ServerSpec("web", argv, _environment(settings), answers, _READY_TIMEOUT_S, _STOP_TIMEOUT_S)
        super().__init__(guardian, spec)


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child process with these settings, and no others of the user's."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("TAGGER_")}
    return {
        **inherited,
        **settings,
        "TAGGER_LOG__FORMAT": "json",
        # It runs in the guardian's folder, where a checkout that is not installed would not be found.
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
