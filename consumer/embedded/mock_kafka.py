"""librdkafka's mock broker in a process of its own: the substitute for Kafka on a machine without Java.

Topics are created with 4 partitions when they are first used; `create_topics` is not supported. Records are kept in
memory only, at most 5 MiB per partition.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from consumer.embedded.kafka import VERSION, missing_packages
from consumer.embedded.process import EmbeddedServerError, GuardianClient, Server, ServerSpec

#: How every notice of it begins.
MARK = "Kafka is librdkafka's mock broker"


def notice_of(missing: Sequence[str]) -> str:
    """What the mock broker lacks, and what brings the real Kafka: `missing` are the packages that are not there."""
    lacks = f"{MARK}: records live in memory only (a restart loses them) and replay by time does not work"
    if missing:
        install = f"apt-get install -y {' '.join(missing)}"
        return f"{lacks}; the real Kafka {VERSION} (--kafka real) needs once a network, and: {install}"
    return f"{lacks}; the real Kafka {VERSION} can run here, once a network has brought its files: --kafka real"


class MockKafka(Server):
    """The mock broker, with the interface of `Kafka`; a restart loses its records and changes its port."""

    is_mock = True

    def __init__(self, guardian: GuardianClient, name: str = "kafka") -> None:
        """Prepares the broker; `start` runs it."""
        self.notice = notice_of(missing_packages())
        home = guardian.folder / name
        home.mkdir()
        self._address = home / "address"
        argv = [sys.executable, "-m", "consumer.embedded.mock_kafka", str(self._address)]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        super().__init__(guardian, ServerSpec(name, argv, env, self._address.exists))

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect; the broker chooses its port at each start.

        Raises:
            EmbeddedServerError: It is not running.
        """
        try:
            return self._address.read_text(encoding="ascii")
        except FileNotFoundError:
            message = "the mock broker is not running"
            raise EmbeddedServerError(message) from None

    def start(self) -> None:
        """Starts an empty broker and waits until it has an address."""
        self._address.unlink(missing_ok=True)
        super().start()


def main() -> None:
    """Runs a mock broker until a signal; writes its address into the file that is the only argument."""
    from confluent_kafka import Producer  # noqa: PLC0415 (only this process needs it)

    producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
    brokers = producer.list_topics(timeout=10).brokers.values()
    target = Path(sys.argv[1])
    draft = target.with_suffix(".draft")
    draft.write_text(",".join(f"{broker.host}:{broker.port}" for broker in brokers), encoding="ascii")
    draft.rename(target)
    signal.pause()


if __name__ == "__main__":
    main()
