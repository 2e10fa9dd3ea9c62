"""The embedded Redis Cluster: masters that share the slots evenly, and replicas of the first ones. For tests."""

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

import redis as redis_client

from consumer.embedded.paths import free_port
from consumer.embedded.process import EmbeddedServerError, GuardianClient
from consumer.embedded.redis import Redis

_SLOTS = 16_384
#: A node listens for the others at its port and this.
_BUS_OFFSET = 10_000
_NODE_TIMEOUT_MS = 1_500
_FORM_TIMEOUT_S = 30.0
_ANSWER_TIMEOUT_S = 10.0
_POLL_S = 0.05


class RedisCluster:
    """Several Redis servers that form a cluster; `nodes` are the masters in the order of their slots, then replicas."""

    def __init__(
        self, guardian: GuardianClient, name: str, *, masters: int = 3, replicas: int = 0, binary: Path | None = None
    ) -> None:
        """Chooses free ports; `start` runs the nodes."""
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(_NODE_TIMEOUT_MS)]
        options += ["--repl-diskless-sync-delay", "0"]
        self.masters = masters
        self.nodes = [
            Redis(guardian, f"{name}-{number}", binary=binary, port=_port_with_free_bus(), options=options)
            for number in range(masters + replicas)
        ]
        #: Names the first node, which tells of the others.
        self.url = self.nodes[0].url

    def start(self) -> None:
        """Starts every node and makes them a cluster.

        Raises:
            EmbeddedServerError: a node did not start, or they did not agree in time.
        """
        for node in self.nodes:
            node.start()
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            slots = range(_SLOTS * number // self.masters, _SLOTS * (number + 1) // self.masters)
            if number < self.masters:
                # ADDSLOTSRANGE is newer than 6.2.
                command(node, "CLUSTER", "ADDSLOTS", *slots)
            if node is not first:
                command(node, "CLUSTER", "MEET", "127.0.0.1", first.port)
        self.wait_ready()
        for number, replica in enumerate(self.nodes[self.masters :]):
            command(replica, "CLUSTER", "REPLICATE", self.node_id(self.nodes[number % self.masters]))
        self.wait_ready()

    def node_id(self, node: Redis) -> str:
        """A node's name in the cluster."""
        return str(command(node, "CLUSTER", "MYID"))

    def wait_ready(self) -> None:
        """Waits until every running node knows all of them, serves all slots, and replicas follow their masters.

        Raises:
            EmbeddedServerError: not in time.
        """
        deadline_s = time.monotonic() + _FORM_TIMEOUT_S
        while not all(self._agrees(node) for node in self.nodes if node.running):
            if time.monotonic() > deadline_s:
                message = f"the cluster did not form within {_FORM_TIMEOUT_S:.0f} s; see {self.nodes[0].log_path}"
                raise EmbeddedServerError(message)
            time.sleep(_POLL_S)

    def _agrees(self, node: Redis) -> bool:
        try:
            told = str(command(node, "CLUSTER", "INFO"))
            linked = command(node, "INFO", "replication").get("master_link_status", "up") == "up"
        except redis_client.RedisError:
            return False
        known = f"cluster_known_nodes:{len(self.nodes)}\r" in told
        return known and linked and "cluster_state:ok" in told and f"cluster_slots_ok:{_SLOTS}" in told


def command(node: Redis, *parts: str | int) -> Any:
    """Asks one node, without following redirections."""
    with redis_client.Redis.from_url(node.url, decode_responses=True, socket_timeout=_ANSWER_TIMEOUT_S) as client:
        ask: Any = client.execute_command
        return ask(*parts)


def _port_with_free_bus() -> int:
    """A free port such that the one of the cluster bus, `_BUS_OFFSET` above, is free too."""
    for _ in range(200):
        port = free_port() - _BUS_OFFSET
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise EmbeddedServerError("found no two free ports on 127.0.0.1")
