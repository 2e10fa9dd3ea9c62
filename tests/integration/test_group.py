"""The ways to be a member of a group, on a real Kafka: KIP-848, static membership, and a replay beside it."""

import asyncio
import json
import re
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from confluent_kafka import ConsumerGroupType
from confluent_kafka.admin import AdminClient

from consumer import telemetry
from consumer.embedded.paths import free_port
from consumer.errors import SourceFailed
from consumer.operations import replay
from consumer.settings import Settings
from tests.harness import BRIGHT, World, by_key, eventually
from tests.harness_process import RunningTagger, running_tagger


def changed(settings: Settings, section: str, **values: object) -> Settings:
    """The same settings with some of one section changed."""
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


async def test_members_under_kip_848_share_the_partitions_and_hand_them_over(world: World) -> None:
    world.photos.answers["photo"] = BRIGHT
    modern = changed(world.settings, "kafka", group_protocol="consumer", extra={})
    for number in range(20):
        world.upload(f"a{number}", "photo")
    async with world.service(modern) as first:
        await eventually(lambda: sum(first.outcomes().values()) == 20)
        async with world.service(modern) as second:
            await eventually(lambda: first.metrics.assigned._value.get() == second.metrics.assigned._value.get() == 2)
            for number in range(20):
                world.upload(f"b{number}", "photo")
            await eventually(lambda: len(by_key(world.tags())) == 40)
            assert second.outcomes()
            assert modern.kafka.group_id in await asyncio.to_thread(groups_of_kip_848, world.kafka)
        await eventually(lambda: first.metrics.assigned._value.get() == 4)
        for number in range(10):
            world.upload(f"c{number}", "photo")
        await eventually(lambda: len(by_key(world.tags())) == 50)
    assert sum(world.committed().values()) == 50
    assert world.dead() == []


def groups_of_kip_848(bootstrap_servers: str) -> set[str]:
    """The groups that the broker runs by the KIP-848 protocol."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    listed = admin.list_consumer_groups(types={ConsumerGroupType.CONSUMER}).result(10)
    return {group.group_id for group in listed.valid}


def rebalances(tagger: RunningTagger) -> list[tuple[str, frozenset[str]]]:
    """What a member was given and what was taken from it, by its log; of the topics of both its groups."""
    lines = [line for line in tagger.log() if line["event"].startswith("assignment.") and line["partitions"]]
    return [(line["event"], frozenset(line["partitions"])) for line in lines]


@pytest.mark.parametrize(
    ("protocol", "extra"),
    [("classic", {"heartbeat.interval.ms": 500, "session.timeout.ms": 30_000}), ("consumer", {})],
)
async def test_a_static_member_that_comes_back_in_time_disturbs_nobody(
    world: World, tmp_path: Path, protocol: str, extra: dict[str, int]
) -> None:
    world.photos.answers["photo"] = BRIGHT

    live, later = world.settings.kafka.uploads_topic, world.settings.kafka.retry_topic

    def member(name: str, log: str) -> AbstractContextManager[RunningTagger]:
        return running_tagger(
            world.settings,
            tmp_path,
            port=free_port(),
            name=log,
            TAGGER_KAFKA__EXTRA=json.dumps(extra),
            TAGGER_KAFKA__GROUP_PROTOCOL=protocol,
            TAGGER_KAFKA__INSTANCE_ID=name,
        )

    with member("one", "one") as one:
        await eventually(lambda: len(one.partitions(live)) == len(one.partitions(later)) == 4)
        with member("two", "two") as two:
            members = (one, two)
            await eventually(
                lambda: {len(each.partitions(topic)) for each in members for topic in (live, later)} == {2}
            )
            share, before = two.partitions(live), rebalances(one)
            assert (await asyncio.to_thread(two.terminate))[0] == 0
        for number in range(20):
            world.upload(f"a{number}", "photo")
        with member("two", "two-again") as again:
            await eventually(lambda: again.partitions(live) == share)
            await eventually(lambda: len(by_key(world.tags())) == 20)
            await eventually(
                lambda: re.search(
                    r'^tagger_records_total\{outcome="tagged"\} [1-9]', again.get("/metrics")[1], re.MULTILINE
                )
            )
            assert rebalances(one) == before


@pytest.mark.parametrize(("protocol", "fails"), [("classic", "first"), ("consumer", "second")])
async def test_of_two_members_with_one_name_one_stops_and_says_so(world: World, protocol: str, fails: str) -> None:
    extra = world.settings.kafka.extra if protocol == "classic" else {}
    named = changed(world.settings, "kafka", group_protocol=protocol, instance_id="same", extra=extra)
    async with world.service(named) as first:
        await eventually(lambda: first.metrics.assigned._value.get() == 4)
        async with world.service(named) as second:
            loser = first if fails == "first" else second
            await eventually(loser.stopping.is_set)
            assert isinstance(loser.failure, SourceFailed)
            assert "instance" in str(loser.failure).lower()


async def test_a_replay_has_no_more_in_work_than_its_own_bound(world: World) -> None:
    now, most = 0, 0
    full = asyncio.Event()

    async def slowly() -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        now -= 1
        return web.Response(body=BRIGHT)

    for number in range(30):
        world.photos.answers[f"photo{number}"] = slowly
        world.upload(f"photo{number}", f"photo{number}")
    bounded = changed(world.settings, "service", replay_in_flight=3, max_in_flight=64)
    log = telemetry.configure_logging("debug", "json", world.log)
    later = datetime.now(UTC) + timedelta(seconds=1)  # the last record may be of this very millisecond
    result = await replay.replay(
        bounded, log, since=datetime.fromtimestamp(0, UTC), until=later, progress=lambda *_: None
    )
    assert result.outcomes == {"tagged": 30}
    assert most == 3
