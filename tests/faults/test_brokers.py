"""A cluster of three brokers that loses one, and a coordinator that refuses: experiments 5 and 6."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial

import pytest
from confluent_kafka.admin import AdminClient

from consumer.embedded.servers import Servers
from consumer.embedded.triton import Triton
from consumer.kafka.topics import create_topics
from consumer.service.run import Service
from tests.faults.experiment import Experiment
from tests.harness import BRIGHT, PhotoServer, World, eventually, make_world
from tests.kafka_cluster import KafkaCluster
from tests.ledger import Ledger
from tests.mock_cluster import CONSUMER_GROUP_HEARTBEAT, HEARTBEAT, OFFSET_COMMIT, MockCluster, mock_cluster

_ADMIN_TIMEOUT_S = 10
COORDINATOR = 1
LOADING, NOT_COORDINATOR, REBALANCING, STALE_EPOCH = 14, 16, 27, 113

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def cluster(servers: Servers) -> Iterator[KafkaCluster]:
    """Three brokers; what is acknowledged is on two of them at least."""
    started = KafkaCluster(servers._guardian, 3, "kafka-of-three")
    started.start()
    yield started
    started.kill()


@pytest.mark.experiment(5, "of three brokers, a partition's leader or the group's coordinator is killed")
async def test_photos_go_on_while_one_broker_of_three_is_dead(
    cluster: KafkaCluster, redis_db: str, predictable_triton: Triton, photos: PhotoServer, experiment: Experiment
) -> None:
    create = partial(create_topics, replication=3)
    world = make_world(cluster.bootstrap_servers, redis_db, predictable_triton.grpc_url, photos, create)
    ledger = Ledger(world)
    photos.answers["photo"] = BRIGHT
    photos.delay_s = 0.05
    async with world.service() as service:
        rounds = experiment.size(1, full=2)
        for number in range(rounds):
            for photo in range(100):
                ledger.upload(f"photo-{number}-{photo}", f"photo/{number}-{photo}")
            done = sum(service.outcomes().values())
            await eventually(lambda done=done: sum(service.outcomes().values()) > done)
            victim = experiment.chance.choice([leader, coordinator])(world, experiment.chance.randrange(4))
            cluster.nodes[victim].kill()
            killed_s = time.monotonic()
            await experiment.recovery(ledger, "photo", since_s=killed_s)
            await ledger.settle()  # by the other two
            if number + 1 < rounds:
                await asyncio.to_thread(cluster.nodes[victim].start)
        assert service.live()
    experiment.close(ledger)


def leader(world: World, partition: int) -> int:
    """The broker that leads a partition of the upload topic."""
    admin = AdminClient({"bootstrap.servers": world.kafka})
    topic = world.settings.kafka.uploads_topic
    return int(admin.list_topics(topic, timeout=_ADMIN_TIMEOUT_S).topics[topic].partitions[partition].leader)


def coordinator(world: World, _: int) -> int:
    """The broker that coordinates the service's group."""
    admin = AdminClient({"bootstrap.servers": world.kafka})
    group = world.settings.kafka.group_id
    return int(admin.describe_consumer_groups([group])[group].result(_ADMIN_TIMEOUT_S).coordinator.id)


@pytest.fixture
def coordinating() -> Iterator[MockCluster]:
    with mock_cluster() as started:
        yield started


# A stale epoch answers commits, never heartbeats: librdkafka takes that for fatal.
@pytest.mark.parametrize(
    ("protocol", "errors"),
    [
        pytest.param(
            "classic",
            dict.fromkeys((OFFSET_COMMIT, HEARTBEAT), (LOADING, NOT_COORDINATOR, REBALANCING)),
            marks=pytest.mark.experiment(6, "the coordinator answers errors 14, 16 and 27 (classic protocol)"),
        ),
        pytest.param(
            "consumer",
            {
                OFFSET_COMMIT: (LOADING, NOT_COORDINATOR, STALE_EPOCH),
                CONSUMER_GROUP_HEARTBEAT: (LOADING, NOT_COORDINATOR),
            },
            marks=pytest.mark.experiment(6, "the coordinator answers errors 14, 16 and 113 (KIP-848)"),
        ),
    ],
)
async def test_commits_that_the_coordinator_refuses_are_repeated(
    coordinating: MockCluster,
    redis_db: str,
    predictable_triton: Triton,
    photos: PhotoServer,
    experiment: Experiment,
    protocol: str,
    errors: dict[int, tuple[int, ...]],
) -> None:
    servers, triton = coordinating.bootstrap_servers, predictable_triton.grpc_url
    world = make_world(servers, redis_db, triton, photos, coordinating.create_topics)
    photos.answers["photo"] = BRIGHT
    extra = {"auto.commit.interval.ms": 250}
    extra |= {"heartbeat.interval.ms": 200, "session.timeout.ms": 3000} if protocol == "classic" else {}
    kafka = world.settings.kafka.model_copy(update={"group_protocol": protocol, "extra": extra})
    settings = world.settings.model_copy(update={"kafka": kafka})
    ledger = Ledger(world)
    coordinating.set_coordinator(kafka.group_id, COORDINATOR)
    async with world.service(settings) as service:
        await eventually(lambda: service.metrics.assigned._value.get() == 4)
        gaps = asyncio.create_task(longest_gap_s(service))
        for number in range(experiment.size(2, full=4)):
            for request, possible in errors.items():
                coordinating.fail_next(COORDINATOR, request, experiment.chance.choices(possible, k=3))
            refused_s = time.monotonic()
            for photo in range(30):
                ledger.upload(f"photo-{number}-{photo}", f"photo/{number}-{photo}")
                await asyncio.sleep(experiment.chance.uniform(0, 0.04))
            await ledger.settle()
            experiment.recovered(time.monotonic() - refused_s)
            assert coordinating.failures_left(COORDINATOR, OFFSET_COMMIT) < 3 * (number + 1), "no commit was refused"
        # librdkafka repeats a refused commit after newer ones: a position may go back for a moment, and must not stay.
        await ledger.settle(looks=10)
        service.stopping.set()
        experiment.figure("longest time between two polls, s", await gaps)
        assert service.failure is None
    experiment.close(ledger)


async def longest_gap_s(service: Service) -> float:
    """The longest time for which the Kafka thread did not poll, until the service is asked to stop."""
    longest = 0.0
    while not service.stopping.is_set():
        assert service._parts is not None
        longest = max(longest, time.monotonic() - service._parts.streams[0].source._ticked_s)
        await asyncio.sleep(0.02)
    return longest
