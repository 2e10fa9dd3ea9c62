"""Several Kafka nodes on one machine: each a broker and a controller, every topic on up to three of them."""

import time

from consumer.embedded.kafka import Kafka, free_addresses
from consumer.embedded.process import EmbeddedServerError, GuardianClient

_POLL_S = 0.05
_ADMISSION_TIMEOUT_S = 30.0
_REPLICAS = 3


class KafkaCluster:
    """A cluster that outlives the loss of a node; with three, an acknowledged record is on two of them at least."""

    def __init__(self, guardian: GuardianClient, count: int = 3, name: str = "kafka") -> None:
        """Chooses the ports; `start` runs the nodes. Raises as `Kafka` does."""
        addresses = free_addresses(2 * count)
        nodes = list(enumerate(zip(addresses[:count], addresses[count:], strict=True), 1))
        replicas = min(count, _REPLICAS)
        in_sync = max(1, replicas - 1)
        settings = {
            "controller.quorum.voters": ",".join(f"{n}@{controller}" for n, (_, controller) in nodes),
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            "min.insync.replicas": in_sync,
        }
        #: By number, as the cluster's metadata names them.
        self.nodes = {
            n: Kafka(guardian, f"{name}-{n}", addresses=pair, settings={**settings, "node.id": n}) for n, pair in nodes
        }

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect: every node."""
        return ",".join(node.bootstrap_servers for node in self.nodes.values())

    def start(self) -> None:
        """Starts every node and waits until each knows all.

        Raises:
            EmbeddedServerError: A node did not start, or was not admitted in time.
        """
        for node in self.nodes.values():
            node.launch()
        for node in self.nodes.values():
            node.wait_ready()
        deadline_s = time.monotonic() + _ADMISSION_TIMEOUT_S
        while any(node.known_brokers() < len(self.nodes) for node in self.nodes.values()):
            if time.monotonic() > deadline_s:
                message = f"the {len(self.nodes)} nodes did not find each other within {_ADMISSION_TIMEOUT_S:.0f} s"
                raise EmbeddedServerError(message)
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """Ends every node at once."""
        for node in self.nodes.values():
            node.kill()
