"""Logs of earlier runs make room for new ones."""

import os
from pathlib import Path

import pytest

from consumer.embedded.paths import new_logs_folder


def test_the_last_five_are_kept_and_those_of_running_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_CACHE_DIR", str(tmp_path))
    running, lock = new_logs_folder()
    ended = []
    for _ in range(6):
        folder, own = new_logs_folder()
        os.close(own)
        ended.append(folder)
    logs = tmp_path / "logs"
    assert sorted(logs.iterdir()) == [running, *ended[1:]]
    os.close(lock)
    newest, own = new_logs_folder()
    os.close(own)
    assert sorted(logs.iterdir()) == [*ended[2:], newest]
