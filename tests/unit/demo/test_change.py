"""Which versions the demo changes between, and what it does where that fails: all without a server."""

import json
import socket
from pathlib import Path

import pytest

from consumer.demo.change import ModelChange, wishes, without_golden
from consumer.demo.ledger import Ledger
from consumer.demo.report import Reporter
from consumer.operations.model_folder import ModelFolder
from consumer.operations.models import Listed
from consumer.operations.promotion import Wish
from consumer.releases import ModelVersion


def listed(model: str, *versions: int, state: str = "READY") -> list[Listed]:
    return [Listed(model, version, state, "", None, None, None) for version in versions]


def quality(version: int) -> ModelVersion:
    return ModelVersion("quality", str(version))


def brand(version: int) -> ModelVersion:
    return ModelVersion("brand", str(version))


@pytest.mark.parametrize(
    ("found", "before", "newest"),
    [
        ([*listed("quality", 1, 2), *listed("brand", 1, 2)], Wish(quality(1), brand(1)), Wish(quality(2), brand(2))),
        ([*listed("quality", 9, 10, 11), *listed("brand", 3)], Wish(quality(10)), Wish(quality(11))),
        ([*listed("quality", 1), *listed("brand", 1, 3)], Wish(None, brand(1)), Wish(None, brand(3))),
        ([*listed("quality", 1), *listed("brand", 2)], Wish(), Wish()),
        ([*listed("quality", 1, 3), *listed("quality", 2, 4, state="UNAVAILABLE")], Wish(quality(1)), Wish(quality(3))),
        (listed("other", 1, 2), Wish(), Wish()),
    ],
)
def test_the_demo_changes_from_the_version_before_the_newest_that_is_served(
    found: list[Listed], before: Wish, newest: Wish
) -> None:
    assert wishes(found, "quality", "brand") == (before, newest)


def test_versions_without_golden_photos_are_named(tmp_path: Path) -> None:
    golden = {"photos": [{"file": "a.jpg", "outputs": {"quality_score": [0.5]}}], "tolerances": {"model.onnx": 0.01}}
    for version, manifest in ((1, {"files": {}}), (2, {"files": {}, "golden": golden})):
        (tmp_path / "quality" / str(version)).mkdir(parents=True)
        (tmp_path / "quality" / str(version) / "MANIFEST.json").write_text(json.dumps(manifest))
    folder = ModelFolder(tmp_path, "cpu")
    assert without_golden(folder, [quality(2), brand(3), quality(1)]) == ["brand 3", "quality 1"]


def test_a_change_that_fails_is_one_line_and_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As in a terminal that has the settings of other servers.
    monkeypatch.setenv("TAGGER_TRITON__URL", "triton.invalid:1")
    (tmp_path / "logs").mkdir()
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody_listens.getsockname()[1]}"
        change = ModelChange({"TAGGER_TRITON__URL": address, "TAGGER_TRITON__DEADLINE_S": "1"}, tmp_path, Reporter())
        change.begin()
    (problem,) = change.problems([], Ledger(), {}, all_tagged=True)
    assert problem.startswith("the change of models failed: triton")
    assert address in problem
    assert str(tmp_path / "logs" / "change.log") in problem
    assert "\n" not in problem
    change.carry_out(lambda: pytest.fail("nothing to carry out"))
    assert change.link is None
    assert capsys.readouterr().out == ""


def test_without_a_change_nothing_is_wrong(tmp_path: Path) -> None:
    change = ModelChange({}, tmp_path, Reporter())
    change.carry_out(lambda: pytest.fail("nothing to carry out"))
    assert change.problems([], Ledger(), {}, all_tagged=True) == []
    assert change.link is None
