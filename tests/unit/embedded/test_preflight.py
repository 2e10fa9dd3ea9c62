"""What a machine lacks is said in one line, with what helps, before anything starts or is installed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from consumer.embedded import preflight
from consumer.embedded.process import EmbeddedServerError

_MIB = 1024 * 1024
_SHM = Path("/dev/shm")


def free_in(folder: Path, mib: int) -> Callable[[Path], int]:
    """A machine with little room in one folder, and enough in all others."""
    return lambda asked: (mib if asked == folder else 1_000_000) * _MIB


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Java, Maven, Redis or Kafka's jars, and without the servers' environment."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("TAGGER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TAGGER_SERVERS_ENV", str(tmp_path / "nowhere"))
    return tmp_path


def test_a_machine_with_room_passes() -> None:
    preflight.require_room(free_in(_SHM, 24))


def test_little_shared_memory_is_said_with_the_command_that_gives_more() -> None:
    with pytest.raises(EmbeddedServerError, match=r"^/dev/shm has 23 MiB free, .* 24 MiB .*mount -o remount[^\n]+$"):
        preflight.require_room(free_in(_SHM, 23))


def test_a_missing_shared_memory_is_said() -> None:
    def free(folder: Path) -> int:
        if folder == _SHM:
            raise FileNotFoundError(2, "No such file or directory")
        return 1_000_000 * _MIB

    with pytest.raises(EmbeddedServerError, match=r"^cannot use /dev/shm: No such file [^\n]*mount [^\n]*$"):
        preflight.require_room(free)


def test_a_full_temporary_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(EmbeddedServerError, match=rf"^{tmp_path} has 199 MiB free, [^\n]*TMPDIR[^\n]*$"):
        preflight.require_room(free_in(tmp_path, 199))


def test_little_room_stops_what_would_install_and_not_what_is_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preflight.main("demo", tmp_path, free_in(tmp_path, 1499)) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"{tmp_path} has 1499 MiB free, and 1500 MiB are needed; make room there\n"
    assert preflight.main("demo", tmp_path, free_in(tmp_path, 1500)) == 0
    assert preflight.main("test", tmp_path, free_in(tmp_path, 1500)) == 1
    assert preflight.main("demo", tmp_path, free_in(_SHM, 23)) == 1

    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed-dev").touch()
    for level in ("demo", "models", "test"):
        assert preflight.main(level, tmp_path, free_in(tmp_path, 300)) == 0


@pytest.mark.usefixtures("bare_path")
def test_the_demo_can_do_without_what_the_tests_need() -> None:
    java = ["maven", "default-jre-headless"]
    needed, optional = preflight.missing_packages("demo")
    assert optional == java
    assert preflight.missing_packages("test") == ([*needed, *java, "redis-server"], [])
    assert preflight.missing_packages("models") == (needed, [])


def test_an_old_java_is_as_good_as_none(bare_path: Path) -> None:
    java = bare_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n", encoding="utf-8")
    java.chmod(0o755)
    (bare_path / "mvn").symlink_to("/bin/true")
    assert preflight.missing_packages("demo")[1] == ["default-jre-headless"]
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.2\"' >&2\n", encoding="utf-8")
    assert preflight.missing_packages("demo")[1] == []


@pytest.mark.usefixtures("bare_path")
def test_before_triton_is_installed_its_stubs_python_library_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # No Python has this version, so no machine has its library.
    monkeypatch.setattr("sys.version_info", _Version())
    assert preflight.missing_packages("demo")[0] == ["libpython3.99"]


class _Version:
    major, minor = 3, 99
