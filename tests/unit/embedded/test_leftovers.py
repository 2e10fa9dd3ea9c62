"""The folders that Triton's python backend leaves in /tmp."""

import time
from pathlib import Path

import pytest

from consumer.embedded import leftovers


def test_empty_ones_made_since_the_server_began_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_ENVIRONMENTS", (str(tmp_path), "python_env_*"))
    for name in ("python_env_aaaaaa", "python_env_bbbbbb", "another"):
        (tmp_path / name).mkdir()
    (tmp_path / "python_env_bbbbbb" / "0").mkdir()
    leftovers.remove_environments(time.time() + 60)
    assert len(list(tmp_path.iterdir())) == 3
    leftovers.remove_environments(time.time() - 60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "python_env_bbbbbb"]
