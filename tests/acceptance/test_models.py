"""Another model version as an operator brings it in: listed, loaded, verified, promoted, gone back from, retired."""

import json
from typing import Any

import onnx
import pytest
from typer.testing import CliRunner

from consumer.cli.main import app
from consumer.settings import Settings
from tests.harness_process import environment, photo_tagger
from tests.tiny_models import KEY, publish_quality, quality_graph


def test_a_version_is_brought_in_and_out_again_and_a_broken_one_stays_out(
    operated: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = operated.triton.repository
    assert repository is not None
    env = environment(
        operated,
        TAGGER_TRITON__REPOSITORY=str(repository),
        TAGGER_TRITON__ADMIN_KEY=KEY,
    )
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    def rows(*arguments: str, code: int = 0) -> list[dict[str, Any]]:
        ended = CliRunner().invoke(app, ["models", *arguments], catch_exceptions=False)
        assert ended.exit_code == code, ended.output
        assert KEY not in ended.output
        return [json.loads(line) for line in ended.stdout.splitlines()]

    good = publish_quality(repository, 0.7).name
    # What was tested and what arrived here are two files.
    broken = publish_quality(repository, 0.9)
    onnx.save(quality_graph(0.3), broken / "model.onnx")
    *_, first = rows("promote", "--quality", "1", "--brand", "brand_logo/1", "--reason", "the start")
    assert (first["release"], first["appended"]) == (1, True)

    assert rows("load", "photo_quality", good) == [{"model": "photo_quality", "loaded": [1, 2, int(good)]}]
    *answers, summary = rows("verify", "photo_quality", good)
    assert len(answers) == 16
    assert summary["passed"]
    *_, second = rows("promote", "--quality", good, "--good-threshold", "0.51", "--reason", "sharper")
    assert (second["release"], second["changed"]) == (2, f"photo_quality 1 is now photo_quality {good}")

    rows("load", "photo_quality", broken.name)
    *_, summary = rows("verify", "photo_quality", broken.name, code=1)
    assert (summary["passed"], summary["damaged"]) == (False, ["model.onnx"])
    assert rows("promote", "--quality", broken.name, "--reason", "hope", code=8) == []
    ended = photo_tagger("models", "list", env=env)
    listed = [json.loads(line) for line in ended.stdout.splitlines()]
    assert listed == rows("list")
    found = {(row["model"], row["version"]): (row["state"], row["used"]) for row in listed}
    assert found["brand_logo", 1] == found["photo_quality", int(good)] == ("READY", "in force")
    assert found["photo_quality", 1] == ("READY", "one step back")
    assert found["photo_quality", int(broken.name)] == ("READY", None)
    rows("retire", "photo_quality", good, code=8)
    assert rows("retire", "photo_quality", broken.name)[0]["loaded"] == [1, 2, int(good)]

    (back,) = rows("rollback", "--reason", "worse at night")
    assert (back["release"], back["quality"]) == (3, {"model": "photo_quality", "version": "1"})
    assert [row["reason"] for row in rows("releases")] == ["the start", "sharper", "worse at night"]
    rows("promote", "--quality", "2", "--reason", "once more")
    assert rows("retire", "photo_quality", good) == [{"model": "photo_quality", "loaded": [1, 2]}]


@pytest.mark.parametrize(
    "wrong",
    [
        ["promote", "--quality", "0", "--reason", "r"],
        ["promote", "--brand", "x/1000", "--reason", "r"],
        ["promote", "--quality", "1"],
        ["rollback", "--reason", " "],
        ["load", "photo_quality", "first"],
    ],
)
def test_a_command_that_makes_no_sense_is_refused_before_anything_is_asked(wrong: list[str]) -> None:
    assert CliRunner().invoke(app, ["models", *wrong], catch_exceptions=False).exit_code == 3
