"""Every block of docs/how-to/read-tags.md, run as it stands in the page, on real servers."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import KafkaException, NewTopic

from consumer import events
from consumer.embedded.kafka import Kafka
from consumer.events import Brand, Quality, Tags
from consumer.redis.store import Store
from consumer.tags import level_of
from tests.fakes import tags
from tests.harness_process import ROOT, photo_tagger

PAGE = (ROOT / "docs" / "how-to" / "read-tags.md").read_text(encoding="utf-8")
TOPIC = "photo-tags"
ADMIN_S = 15


def photo(photo_id: str, score: float, *brands: str) -> Tags:
    return tags(
        photo_id=photo_id,
        quality=Quality(score, level_of(score), good=score >= 0.5),
        brands=tuple(Brand(brand, 0.9) for brand in brands),
    )


PHOTOS = [
    photo("beach-17", 0.91, "puma"),
    photo("beach-18", 0.72, "shell"),
    photo("beach-19", 0.95),
    photo("beach-20", 0.3, "puma"),
]


def block(language: str, part: str) -> str:
    """The only block of the page in this language that has this text in it."""
    (found,) = (each for each in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if part in each)
    return str(found)


@pytest.fixture(scope="module")
def broker(kafka: Kafka) -> Iterator[str]:
    """Kafka with the topic of the page, with four partitions, until the module ends."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    try:
        admin.create_topics([NewTopic(TOPIC, num_partitions=4, replication_factor=1)])[TOPIC].result(ADMIN_S)
    except KafkaException as error:
        pytest.skip(f"another test has the topic: {error}")
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "compression.type": "lz4"})
    for each in PHOTOS:
        producer.produce(TOPIC, key=each.photo_id, value=events.encode(each))
    producer.produce(TOPIC, key="beach-21", value=None)
    assert producer.flush(ADMIN_S) == 0
    yield kafka.bootstrap_servers
    admin.delete_topics([TOPIC])[TOPIC].result(ADMIN_S)


@pytest.fixture
async def env(broker: str, redis_db: str) -> dict[str, str]:
    async with Store(redis_db, timeout_s=5) as store:
        await store.write_all(PHOTOS)
    return {**os.environ, "REDIS_URL": redis_db, "KAFKA": broker, "PYTHONPATH": str(ROOT)}


def ran(argv: list[str], env: dict[str, str]) -> list[str]:
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_redis_cli_shows_one_photo_and_the_best_of_a_brand(env: dict[str, str]) -> None:
    fields = ran(["sh", "-c", block("sh", "HGETALL")], env)
    assert dict(zip(fields[::2], fields[1::2], strict=True))["q"] == "0.91"
    best = block("sh", "ZREVRANGEBYSCORE")
    assert [line.split() for line in ran(["bash", "-c", best], env)] == [["beach-17", "0.91000000000000003"]]
    good = best.replace("b:{$bb}:puma", "q:{$bb}")
    assert [line.split()[0] for line in ran(["bash", "-c", good], env)] == ["beach-19", "beach-17", "beach-18"]


def test_a_plain_consumer_reads_the_result_topic(env: dict[str, str]) -> None:
    found = ran([sys.executable, "-c", block("python", "confluent_kafka")], env)
    assert sorted(found) == [
        "beach-17 0.91 puma",
        "beach-18 0.72 shell",
        "beach-19 0.95",
        "beach-20 0.3 puma",
        "beach-21 deleted",
    ]


def test_the_reader_gets_finds_counts_and_watches(env: dict[str, str]) -> None:
    found = ran([sys.executable, "-c", block("python", "import Deleted")], env)
    assert found[:6] == [
        "0.91 ['puma']",
        "2",
        "beach-17 0.91 ('puma',)",
        "beach-18 0.72 ('shell',)",
        "['beach-19', 'beach-17']",
        "{'puma': 2, 'shell': 1}",
    ]
    assert sorted(found[6:]) == ["beach-17 0.91", "beach-18 0.72", "beach-19 0.95", "beach-20 0.3", "beach-21 deleted"]


def test_the_asynchronous_reader_gives_the_same(env: dict[str, str]) -> None:
    one, best, *changes = ran([sys.executable, "-c", block("python", "async def main")], env)
    assert one.startswith("Tags(photo_id='beach-17'")
    assert best.startswith("[Found(photo_id='beach-17', quality=0.91, level=5, brands=('puma',)")
    assert len(changes) == 5


def test_the_command_line_finds_counts_and_goes_on_behind_a_page(env: dict[str, str]) -> None:
    named = {**env, "TAGGER_REDIS__URL": env["REDIS_URL"], "TAGGER_TRITON__URL": "127.0.0.1:1"}

    def told(*arguments: str) -> tuple[list[str], str]:
        done = photo_tagger(*arguments, env=named)
        assert done.returncode == 0, done.stderr
        return re.findall(r'"(?:photo_id|brand)":"([^"]*)"', done.stdout), done.stderr

    assert told("find", "puma", "shell", "--min-quality", "0.7") == (["beach-17", "beach-18"], "")
    first, more = told("find", "--limit", "2")
    assert first == ["beach-19", "beach-17"]
    assert told("find", "--limit", "2", *more.removeprefix("more: ").split()) == (["beach-18"], "")
    assert told("find", "--level", "4")[0] == ["beach-18"]
    assert told("find", "--since", "1h") == ([], "no good photo tagged since 1h\n")
    assert told("brands") == (["puma", "shell"], "")
    refused = photo_tagger("find", "--cursor", "x", env=named)
    assert refused.returncode == 3
    assert "no cursor" in refused.stderr
