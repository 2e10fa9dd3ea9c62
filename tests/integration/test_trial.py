"""The live trial on a real Kafka, as an operator runs it: sample, sheet, verdicts, report."""

import json
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from PIL import Image

from consumer.embedded.kafka import Kafka
from consumer.embedded.paths import repository_root
from training.errors import DataError
from training.trial.topic import Topics, draw

pytestmark = pytest.mark.timeout(420)


def trainer(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training.cli", "trial", *arguments]
    return subprocess.run(command, cwd=repository_root(), capture_output=True, text=True, check=False, timeout=400)


@dataclass
class Uploads:
    """Upload events with their photos, and the result topic that a service would have written."""

    kafka: str
    topic: str
    folder: Path
    uploads: str = field(default_factory=lambda: f"uploads-{uuid.uuid4().hex}")
    places: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.producer = Producer({"bootstrap.servers": self.kafka, "linger.ms": 5})

    def send(self, topic: str, key: str, value: dict[str, Any] | None) -> None:
        def done(_error: object, message: Message) -> None:
            self.places[key] = (message.partition() or 0, message.offset() or 0)

        body = None if value is None else json.dumps(value)
        self.producer.produce(topic, body, key, on_delivery=done if topic == self.uploads else None)

    def fill(self, count: int) -> None:
        for number in range(count):
            name = f"photo-{number}"
            path = self.folder / f"{name}.jpg"
            Image.new("RGB", (64, 48), (number * 7 % 256, 90, 90)).save(path)
            self.send(self.uploads, name, {"photo_id": name, "uri": path.as_uri(), "place": f"shop {number % 3}"})
        self.producer.flush(30)
        for number in range(count):
            for score in (0.01, number / count):  # tagged twice: the newer tags count
                self.send(self.topic, f"photo-{number}", self.tags(f"photo-{number}", score))
        self.producer.flush(30)

    def tags(self, name: str, score: float) -> dict[str, Any]:
        partition, offset = self.places.get(name, (0, 10**9))
        return {
            "photo_id": name,
            "quality": {"score": score, "level": 3, "good": score >= 0.5},
            "models": {"photo_quality": "4", "brand_logo": "2"},
            "source": {"topic": self.uploads, "partition": partition, "offset": offset},
            "tagged_at": "2026-11-26T10:00:00Z",
        }


@pytest.fixture
def filled(kafka: Kafka, topic: str, tmp_path: Path) -> Uploads:
    made = Uploads(kafka.bootstrap_servers, topic, tmp_path / "photos")
    made.folder.mkdir()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(made.uploads, num_partitions=4, replication_factor=1)])[made.uploads].result(10)
    made.fill(60)
    return made


def test_a_trial_from_topic_to_precision(filled: Uploads, tmp_path: Path) -> None:
    filled.send(filled.topic, "photo-59", None)  # the best of all was deleted
    filled.send(filled.topic, "expired", filled.tags("expired", 0.99))  # its upload event is gone
    filled.producer.produce(filled.topic, b"no record", "broken")
    filled.producer.flush(30)
    folder = tmp_path / "trial"
    options = ["--kafka", filled.kafka, "--topic", filled.topic, "--folder", str(filled.folder)]
    done = trainer("sample", str(folder), *options, "-n", "500", "--picks", "10", "--controls", "8")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["drawn"], said["good"], said["on_sheet"], said["not_shown"]) == (60, 30, 17, 1)
    assert said["unreadable_records"] == 1
    key = json.loads((folder / "key.json").read_text())
    picked = {entry["photo_id"] for entry in key["entries"] if entry["picked"]}
    assert picked == {f"photo-{number}" for number in range(50, 59)}
    assert "shop 1" in (folder / "sheet.html").read_text()
    assert trainer("sample", str(folder), *options).returncode == 4  # a sheet in use stays as it is

    verdicts = tmp_path / "verdicts-ann.json"
    answers = {
        entry["token"]: {"usable": entry["picked"] and entry["photo_id"] < "photo-56", "in_context": False}
        for entry in key["entries"]
    }
    verdicts.write_text(json.dumps({"trial": key["trial"], "judge": "Ann", "verdicts": answers}))
    done = trainer("report", str(folder), str(verdicts))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["picked"]["usable"]["yes"] == 6
    assert found["picked"]["usable"]["judged"] == 9
    assert found["picked"]["usable"]["low"] < 6 / 9 < found["picked"]["usable"]["high"]
    assert found["controls"]["usable"]["yes"] == 0
    assert "6 of 9" in (folder / "report.md").read_text()


def test_photos_of_places_that_were_not_named_are_not_fetched(filled: Uploads, tmp_path: Path) -> None:
    done = trainer("sample", str(tmp_path / "trial"), "--kafka", filled.kafka, "--topic", filled.topic)
    assert done.returncode == 4
    assert "--folder" in done.stderr
    assert not (tmp_path / "trial").exists()


def test_photos_whose_upload_topic_is_gone_cannot_be_shown(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    made = Uploads(kafka.bootstrap_servers, topic, tmp_path)
    made.send(topic, "a", made.tags("a", 0.9))
    made.producer.flush(30)
    done = trainer("sample", str(tmp_path / "trial"), "--kafka", made.kafka, "--topic", topic)
    assert done.returncode == 4
    assert "no longer in the topic" in done.stderr


def test_the_same_seed_draws_the_same_photos_and_old_tags_are_left_out(filled: Uploads) -> None:
    topics = Topics({"bootstrap.servers": filled.kafka})
    try:
        first = draw(topics, filled.topic, 10, 0, None)
        assert first.seen == 120
        assert first.drawn() == draw(topics, filled.topic, 10, 0, None).drawn()
        assert draw(topics, filled.topic, 10, 0, datetime(2026, 11, 27, tzinfo=UTC)).drawn() == []
        with pytest.raises(DataError, match="no-such-topic"):
            draw(topics, "no-such-topic", 10, 0, None)
    finally:
        topics.close()
