"""The embedded servers, one by one: what tests use, and what `stack` is made of."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from consumer.embedded.kafka import Kafka, can_run
from consumer.embedded.mock_kafka import MockKafka
from consumer.embedded.paths import new_logs_folder, require_linux
from consumer.embedded.process import GuardianClient
from consumer.embedded.redis import Redis
from consumer.embedded.triton import Triton

#: "auto" is the real Kafka where it can run, else the mock.
KafkaMode = Literal["auto", "real", "mock"]


class Servers:
    """Owns a guardian, its temporary folder and its servers; a context manager that leaves nothing but the logs.

    The `start_*` methods wait until the server answers, or raise EmbeddedServerError with the end of its log; they may
    be called from several threads at once. `name` tells several servers of a kind apart, and names the log file.
    """

    def __init__(self, logs_dir: Path | None = None) -> None:
        """Starts the guardian, which first removes what dead runs left.

        Args:
            logs_dir: Where logs are written and kept; by default a new folder in the cache, which keeps five.

        Where this is not Linux, or the guardian does not start, it raises EmbeddedServerError.
        """
        require_linux()
        self.logs_dir = new_logs_folder() if logs_dir is None else logs_dir.absolute()
        self.logs_dir.mkdir(parents=True, exist_ok=True)
        self._guardian = GuardianClient(self.logs_dir)

    @property
    def folder(self) -> Path:
        """The run's temporary folder; its name is the run's name, the prefix of its shared memory too."""
        return self._guardian.folder

    @property
    def guardian_pid(self) -> int:
        """The process that cleans up."""
        return self._guardian.pid

    def start_kafka(self, mode: KafkaMode = "real", name: str = "kafka") -> Kafka | MockKafka:
        """Starts a Kafka; mode "real" fails where there is no Java, and says what to install."""
        real = mode == "real" or (mode == "auto" and can_run())
        kafka = Kafka(self._guardian, name) if real else MockKafka(self._guardian, name)
        kafka.start()
        return kafka

    def start_redis(self, name: str = "redis", *, binary: Path | None = None, options: Sequence[str] = ()) -> Redis:
        """Starts an empty Redis; of another binary, or with further options, where a test asks for that."""
        redis = Redis(self._guardian, name, binary=binary, options=options)
        redis.start()
        return redis

    def start_triton(
        self, repository: Path, config_name: str = "cpu", models: Sequence[str] | None = None, name: str = "triton"
    ) -> Triton:
        """Starts a Triton over a model repository, with the given models loaded (all by default).

        A model that fails to load makes the start fail. Others can be loaded and unloaded later, over Triton's API.
        """
        triton = Triton(self._guardian, repository, config_name, models, name)
        triton.start()
        return triton

    def close(self) -> None:
        """Stops every server and waits until nothing is left but the logs."""
        self._guardian.close()

    def __enter__(self) -> Self:
        """Returns the servers; none runs yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        self.close()
