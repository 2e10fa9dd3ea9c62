"""Another model version as an operator brings it in: listed, loaded, verified, promoted, gone back from, retired."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from typer.testing import CliRunner

from consumer.cli.main import app
from consumer.embedded.kafka import Kafka
from consumer.embedded.servers import Servers
from consumer.kafka.topics import create_topics
from consumer.settings import Settings
from tests.harness_process import environment, photo_tagger
from tests.tiny_models import publish_brand, publish_quality, quality_graph

KEY = "only operators have it"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Of one version of each model."""
    publish_quality(tmp_path / "models")
    publish_brand(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def env(servers: Servers, kafka: Kafka, repository: Path) -> Iterator[dict[str, str]]:
    """The environment of an operator of a Triton over the repository, and of a Kafka with topics of its own."""
    mark = uuid.uuid4().hex[:12]
    names = {f"{kind}_topic": f"{kind}-{mark}" for kind in ("uploads", "tags", "dead", "retry", "releases")}
    closed = f"--grpc-restricted-protocol=model-repository:admin-key={KEY}"
    triton = servers.start_triton(repository, name="walked", options=[closed])
    settings = Settings(kafka={"bootstrap_servers": kafka.bootstrap_servers, **names}, triton={"url": triton.grpc_url})
    create_topics(kafka.bootstrap_servers, settings.kafka.topics)
    yield environment(
        settings,
        TAGGER_KAFKA__RELEASES_TOPIC=settings.kafka.releases_topic,
        TAGGER_TRITON__REPOSITORY=str(repository),
        TAGGER_TRITON__ADMIN_KEY=KEY,
    )
    triton.stop()


def test_a_version_is_brought_in_and_out_again_and_a_broken_one_stays_out(
    env: dict[str, str], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    def rows(*arguments: str, code: int = 0) -> list[dict[str, Any]]:
        ended = CliRunner().invoke(app, ["models", *arguments], catch_exceptions=False)
        assert ended.exit_code == code, ended.output
        assert KEY not in ended.output
        return [json.loads(line) for line in ended.stdout.splitlines()]

    publish_quality(repository, 0.5)
    # What was tested and what arrived here are two files.
    broken = publish_quality(repository, 0.9)
    onnx.save(quality_graph(0.3), broken / "model.onnx")
    *_, first = rows("promote", "--quality", "1", "--brand", "brand_logo/1", "--reason", "the start")
    assert (first["release"], first["appended"]) == (1, True)

    assert rows("load", "photo_quality", "2") == [{"model": "photo_quality", "loaded": [1, 2]}]
    *answers, summary = rows("verify", "photo_quality", "2")
    assert len(answers) == 16
    assert summary["passed"]
    *_, second = rows("promote", "--quality", "2", "--reason", "sharper")
    assert (second["release"], second["changed"]) == (2, "photo_quality 1 is now photo_quality 2")

    rows("load", "photo_quality", "3")
    *_, summary = rows("verify", "photo_quality", "3", code=1)
    assert (summary["passed"], summary["damaged"]) == (False, ["model.onnx"])
    assert rows("promote", "--quality", "3", "--reason", "hope", code=8) == []
    ended = photo_tagger("models", "list", env=env)
    assert [json.loads(line) for line in ended.stdout.splitlines()] == rows("list")
    assert {(row["model"], row["version"]): (row["state"], row["used"]) for row in rows("list")} == {
        ("brand_logo", 1): ("READY", "in force"),
        ("photo_quality", 1): ("READY", "one step back"),
        ("photo_quality", 2): ("READY", "in force"),
        ("photo_quality", 3): ("READY", None),
    }
    rows("retire", "photo_quality", "1", code=8)
    assert rows("retire", "photo_quality", "3") == [{"model": "photo_quality", "loaded": [1, 2]}]

    (back,) = rows("rollback", "--reason", "worse at night")
    assert (back["release"], back["quality"]) == (3, {"model": "photo_quality", "version": "1"})
    assert [row["reason"] for row in rows("releases")] == ["the start", "sharper", "worse at night"]
    for wrong in (["promote", "--quality", "0"], ["promote", "--brand", "x/1000"], ["rollback", "--reason"], ["load"]):
        rows(*wrong, *(["--reason", "r"] if "--reason" not in wrong and "promote" in wrong else []), code=2)
