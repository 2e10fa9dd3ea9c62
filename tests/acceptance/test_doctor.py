"""`photo-tagger doctor` on real servers: each thing that is wrong is made wrong, named, and told how to mend."""

import json
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer.doctor.examination import examine
from consumer.doctor.findings import Finding
from consumer.embedded.kafka import Kafka
from consumer.embedded.servers import Servers
from consumer.kafka.sender import NewRecord, Sender
from consumer.kafka.topics import create_topics
from consumer.operations import promotion
from consumer.operations.promotion import Wish
from consumer.settings import Settings
from consumer.topic_names import TopicNames
from tests.fake_models import write_repository
from tests.harness import World, eventually
from tests.harness_process import environment, photo_tagger
from tests.harness_redis import RedisPlace
from tests.secure_fixtures import SecureRedis, documented_permissions
from tests.secure_kafka import STRANGER, SecureKafka

WAIT_S = 30.0
OK, FAILED, DEPENDENCY = 0, 1, 5
NOBODY = "127.0.0.1:1"


def doctor(settings: Settings, wait_s: float = WAIT_S) -> dict[tuple[str, str], Finding]:
    found = examine(settings, wait_s, lambda _: None)
    return {(each.part, each.about): each for each in found}


def changed(settings: Settings, **sections: dict[str, Any]) -> Settings:
    return Settings(**{name: {**getattr(settings, name).model_dump(), **more} for name, more in sections.items()})


def wrong(found: dict[tuple[str, str], Finding], part: str) -> dict[str, str]:
    """What is not as it should be in a part, by its verdict."""
    return {each.about: each.verdict for each in found.values() if each.part == part and each.verdict != "ok"}


def names_with(mark: str) -> TopicNames:
    return TopicNames(*(f"{kind}-{mark}" for kind in ("uploads", "tags", "dead", "retry", "releases", "runs")))


def own_topics(kafka: Kafka, **configs: dict[str, str]) -> TopicNames:
    """Fresh topics, some with settings or, as `partitions`, a number of their own."""
    names = names_with(uuid.uuid4().hex[:12])
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for kind, config in configs.items():
        count = int(config.pop("partitions", "1"))
        topic = NewTopic(getattr(names, kind), count, 1, config=config)
        admin.create_topics([topic])[topic.topic].result(10)
    create_topics(kafka.bootstrap_servers, names)
    return names


def kafka_alone(servers: str, names: TopicNames, **more: Any) -> Settings:
    topics = {f"{kind}_topic": name for kind, name in asdict(names).items()}
    kafka = {"bootstrap_servers": servers, **topics, **more}
    return Settings(kafka=kafka, redis={"url": f"redis://{NOBODY}"}, triton={"url": NOBODY}, service={"workers": 1})


async def test_all_is_well_with_a_world_that_works(world: World) -> None:
    code, found = _command(world.settings)
    failures = [each for each in found if each["verdict"] == "failure"]
    assert (code, failures) == (OK, [])
    seen = {(each["part"], each["about"]): each["detail"] for each in found}
    assert seen["kafka", "version"] == "speaks Kafka 4.1"
    assert seen["triton", "version"].startswith("Triton 2.")
    assert "none is in force yet" in seen["triton", "release"]
    assert seen["triton", "contract"].startswith("2 brands; ")
    assert "READ, WRITE" in seen["kafka", f"rights to {world.settings.kafka.tags_topic}"]
    assert ("redis", "rights") in seen
    assert ("redis", "clock") in seen


def _command(settings: Settings, *more: str) -> tuple[int, list[dict[str, Any]]]:
    ended = photo_tagger("doctor", "--wait-s", "30", *more, env=environment(settings))
    assert ended.stderr == ""
    return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]


@contextmanager
def deaf() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_who_hangs_keeps_nobody_else_and_the_end_comes_in_time(redis_db: str) -> None:
    with deaf() as address:
        settings = Settings(
            kafka={"bootstrap_servers": address},
            redis={"url": redis_db},
            triton={"url": address, "deadline_s": 60},
        )
        began = time.monotonic()
        ended = photo_tagger("doctor", "--wait-s", "3", env=environment(settings, TAGGER_TRITON__DEADLINE_S="60"))
        assert time.monotonic() - began < 15
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert (ended.returncode, ended.stderr) == (DEPENDENCY, "")
    assert {each["part"] for each in found if each["silent"]} == {"kafka", "triton"}
    assert any(each["part"] == "redis" and each["about"] == "rights" for each in found)
    assert all(each["advice"] for each in found if each["verdict"] != "ok")


def test_servers_that_are_away_are_each_named() -> None:
    settings = Settings(kafka={"bootstrap_servers": NOBODY}, redis={"url": f"redis://{NOBODY}"}, triton={"url": NOBODY})
    found = doctor(settings, 8)
    assert {part for part, about in found if about == "answer"} == {"kafka", "redis", "triton"}
    assert all(each.silent for (_, about), each in found.items() if about == "answer")


def test_topics_that_lose_or_refuse_records_are_named_with_the_command_that_mends_them(kafka: Kafka) -> None:
    names = own_topics(
        kafka,
        tags={"cleanup.policy": "delete", "retention.ms": "86400000"},
        dead={"max.message.bytes": "1000"},
        retry={"min.insync.replicas": "2"},
        releases={"cleanup.policy": "delete", "retention.ms": "-1", "partitions": "3"},
    )
    settings = kafka_alone(kafka.bootstrap_servers, names)
    settings = settings.model_copy(update={"service": settings.service.model_copy(update={"workers": 9})})
    found = doctor(settings)
    assert wrong(found, "kafka") == {
        f"settings of {names.tags}": "failure",
        f"settings of {names.dead}": "failure",
        f"topic {names.retry}": "failure",
        f"partitions of {names.releases}": "failure",
        "workers": "warning",
    }
    assert "--add-config cleanup.policy=compact" in found["kafka", f"settings of {names.tags}"].advice
    assert "max.message.bytes=1000" in found["kafka", f"settings of {names.dead}"].detail
    assert "lower min.insync.replicas to 1" in found["kafka", f"topic {names.retry}"].advice


def test_topics_that_are_not_there_and_records_from_the_future_are_named(kafka: Kafka) -> None:
    names = own_topics(kafka)
    ahead_ms = int((time.time() + 600) * 1000)
    Sender(kafka.bootstrap_servers, {}, [names.uploads]).send(
        [NewRecord(names.uploads, b"k", b"v", timestamp_ms=ahead_ms)]
    )
    missing = TopicNames(**{**asdict(names), "dead": "nowhere-dead", "runs": "nowhere-runs"})
    found = doctor(kafka_alone(kafka.bootstrap_servers, missing))
    assert wrong(found, "kafka") == {
        "topic nowhere-dead": "failure",
        "topic nowhere-runs": "warning",
        "clock": "warning",
    }
    assert "ahead of this host" in found["kafka", "clock"].detail


@pytest.mark.parametrize("user", ["", STRANGER])
def test_where_no_topic_is_seen_each_is_named_with_what_makes_it(secure_kafka: SecureKafka, user: str) -> None:
    names = names_with("nowhere")
    extra = dict(secure_kafka.secure(user=user)) if user else {}
    found = doctor(kafka_alone(secure_kafka.addresses["secure" if user else "plain"], names, extra=extra))
    verdicts = {about: verdict for about, verdict in wrong(found, "kafka").items() if about.startswith("topic ")}
    assert verdicts == {f"topic {name}": "failure" for name in names.required} | {f"topic {names.runs}": "warning"}
    assert "photo-tagger topics" in found["kafka", f"topic {names.uploads}"].advice


async def test_a_user_of_kafka_is_told_what_it_may_not_do_and_nothing_is_written(secure_kafka: SecureKafka) -> None:
    mark = uuid.uuid4().hex[:8]
    names = names_with(mark)
    create_topics(secure_kafka.addresses["plain"], names)
    user = f"User:{STRANGER}"
    for kind in ("uploads", "tags", "releases"):
        secure_kafka.allow(user, "topic", getattr(names, kind), "Read")
    settings = kafka_alone(
        secure_kafka.addresses["secure"], names, extra=dict(secure_kafka.secure(user=STRANGER)), group_id=f"g-{mark}"
    )
    seen: dict[tuple[str, str], Finding] = {}

    def looked() -> bool:
        seen.update(doctor(settings))
        return (
            "this user may not WRITE"
            in seen.get(("kafka", f"rights to {names.tags}"), Finding("kafka", "", "ok", "")).detail
        )

    await eventually(looked, deadline_s=60)
    bad = wrong(seen, "kafka")
    assert bad[f"rights to {names.releases}"] == "failure"
    assert bad[f"rights to {names.uploads}"] == "warning"
    assert bad[f"topic {names.dead}"] == "failure"
    assert bad[f"rights to group g-{mark}"] == "failure"
    assert bad["settings of topics"] == "warning"
    assert "WRITE (send" in seen["kafka", f"rights to {names.uploads}"].detail


async def test_the_documented_permissions_of_kafka_suffice(secure_kafka: SecureKafka) -> None:
    for who, kind, name, operations in documented_permissions():
        if who == "`run`":
            secure_kafka.allow("User:tagger", kind, name, *operations)
    names = TopicNames()
    create_topics(secure_kafka.addresses["plain"], names)
    settings = kafka_alone(secure_kafka.addresses["secure"], names, extra=dict(secure_kafka.secure()))
    failures: list[str] = []

    def none_fails() -> bool:
        failures[:] = [about for about, verdict in wrong(doctor(settings), "kafka").items() if verdict == "failure"]
        return not failures

    await eventually(none_fails, deadline_s=60)


@pytest.fixture
def tuned(redis_db: str) -> Iterator[tuple[Settings, redis_client.Redis]]:
    """Redis alone, and an operator of it, who gets back what it had."""
    with redis_client.Redis.from_url(redis_db, decode_responses=True) as operator:
        before = {
            name: operator.config_get(name)[name] for name in ("maxmemory", "maxmemory-policy", "save", "appendonly")
        }
        settings = Settings(kafka={"bootstrap_servers": NOBODY}, redis={"url": redis_db}, triton={"url": NOBODY})
        try:
            yield settings, operator
        finally:
            for name, value in before.items():
                operator.config_set(name, value)


def test_a_redis_that_evicts_is_full_or_keeps_nothing_is_named(tuned: tuple[Settings, redis_client.Redis]) -> None:
    settings, operator = tuned
    operator.config_set("maxmemory-policy", "allkeys-lru")
    operator.config_set("save", "")
    operator.config_set("appendonly", "no")
    operator.config_set("maxmemory", "1gb")
    before = operator.dbsize()
    found = doctor(settings, 8)
    assert wrong(found, "redis") == {"eviction": "failure", "persistence": "warning"}
    assert "noeviction" in found["redis", "eviction"].advice
    operator.config_set("maxmemory-policy", "noeviction")
    operator.config_set("maxmemory", "1")
    found = doctor(settings, 8)
    assert wrong(found, "redis") == {"memory": "failure", "writes": "failure", "persistence": "warning"}
    assert operator.dbsize() == before


def test_a_user_of_redis_who_may_run_scripts_but_not_all_that_they_call_is_told(
    tuned: tuple[Settings, redis_client.Redis],
) -> None:
    settings, operator = tuned
    operator.acl_setuser("short", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-sadd", "-zcard"])
    try:
        url = settings.redis.url.replace("redis://", "redis://short:any@")
        found = doctor(changed(settings, redis={"url": url}), 8)
        before = operator.dbsize()
    finally:
        operator.acl_deluser("short")
    assert found["redis", "rights"].verdict == "failure"
    assert {"sadd", "zcard"} == {name for name in ("sadd", "zcard", "zadd") if name in found["redis", "rights"].detail}
    assert operator.dbsize() == before


def test_every_kind_of_redis_is_understood_and_keeps_what_it_has(place: RedisPlace) -> None:
    redis = {"url": place.url, "cluster": place.cluster is not None, "timeout_s": 5}
    found = doctor(Settings(kafka={"bootstrap_servers": NOBODY}, redis=redis, triton={"url": NOBODY}), 12)
    assert "failure" not in wrong(found, "redis").values(), found
    assert found["redis", "rights"].verdict == "ok"
    assert found["redis", "version"].detail.split()[0] in {"Redis", "Valkey"}
    with place.masters() as masters:
        assert sum(master.dbsize() for master in masters) == 0


def test_a_cluster_that_is_none_is_named(redis_db: str) -> None:
    settings = Settings(
        kafka={"bootstrap_servers": NOBODY}, redis={"url": redis_db, "cluster": True}, triton={"url": NOBODY}
    )
    found = doctor(settings, 8)
    assert found["redis", "cluster"].advice == "TAGGER_REDIS__CLUSTER=false"


def test_users_of_redis_are_told_what_they_may_not_do(secure_redis: SecureRedis) -> None:
    def seen_by(user: str) -> dict[tuple[str, str], Finding]:
        url = secure_redis.url(user)
        return doctor(
            Settings(kafka={"bootstrap_servers": NOBODY}, redis={"url": url, "timeout_s": 5}, triton={"url": NOBODY}),
            10,
        )

    assert wrong(seen_by("tagger"), "redis") == {"info": "warning"}
    found = seen_by("reader")
    assert found["redis", "rights"].verdict == "failure"
    for command in ("hset", "zadd", "eval", "set"):
        assert command in found["redis", "rights"].detail


def test_a_triton_without_a_model_or_with_another_contract_is_named(servers: Servers, tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "models")
    shutil.rmtree(repository / "brand_logo")
    url = servers.start_triton(repository, name="half").grpc_url
    settings = Settings(kafka={"bootstrap_servers": NOBODY}, redis={"url": f"redis://{NOBODY}"}, triton={"url": url})
    found = doctor(settings, 12)
    assert wrong(found, "triton") == {"models": "failure"}
    assert "brand_logo" in found["triton", "models"].detail
    twice = changed(settings, triton={"brand_model": "photo_quality"})
    assert wrong(doctor(twice, 12), "triton") == {"contract": "failure"}


async def test_a_release_that_triton_does_not_serve_is_named(world: World) -> None:
    settings = world.settings
    await promotion.promote(settings, Wish(good_threshold=0.4), "the first", forced=True)
    found = doctor(settings)
    assert found["triton", "release"].detail.startswith("1 is in force: ")
    assert wrong(found, "triton") == {}
    renamed = changed(settings, triton={"url": NOBODY})
    assert set(wrong(doctor(renamed), "triton")) == {"answer"}
