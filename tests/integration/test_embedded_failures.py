"""What a user reads when an embedded server cannot start."""

import dataclasses
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumer.embedded import kafka, leftovers
from consumer.embedded.paths import packages_of, servers_environment
from consumer.embedded.process import EmbeddedServerError
from consumer.embedded.servers import Servers, start_stack
from consumer.embedded.triton import programs

_FAKE_MAVEN = """\
#!/bin/sh
for argument in "$@"; do
  case "$argument" in
    -DoutputDirectory=*) mkdir -p "${argument#*=}"; echo half > "${argument#*=}/kafka_2.13.jar" ;;
  esac
done
echo "could not resolve" >&2
exit 1
"""


@pytest.fixture
def own_servers(logs_dir: Path) -> Iterator[Servers]:
    with Servers(logs_dir) as owner:
        yield owner


@pytest.fixture
def path_with_java_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    java = shutil.which("java")
    if java is None:
        pytest.skip("no Java here")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "java").symlink_to(java)
    monkeypatch.setenv(
        "PATH", f"{folder}:/bin:/usr/bin" if not shutil.which("mvn", path="/bin:/usr/bin") else str(folder)
    )
    monkeypatch.setenv("TAGGER_CACHE_DIR", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def servers_with_stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Puts another program in the place of Triton's stub, in a servers' environment like the real one."""

    def replace(code: bytes) -> None:
        real = servers_environment()
        packages, python = packages_of(real)
        own = tmp_path / "servers"
        wheel = own / packages.relative_to(real) / "pytriton" / "tritonserver"
        stub = wheel / "python_backend_stubs" / python / "triton_python_backend_stub"
        stub.parent.mkdir(parents=True)
        stub.write_bytes(code)
        stub.chmod(0o755)
        for part in ("bin", "backends"):
            (wheel / part).symlink_to(packages / "pytriton" / "tritonserver" / part)
        (wheel.parents[1] / "nvidia_pytriton.libs").symlink_to(packages / "nvidia_pytriton.libs")
        (own / "bin").symlink_to(real / "bin")
        monkeypatch.setenv("TAGGER_SERVERS_ENV", str(own))

    return replace


def test_a_missing_servers_environment_names_make_setup(
    own_servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGGER_SERVERS_ENV", str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedServerError, match="make setup"):
        own_servers.start_triton(tmp_path)
    with pytest.raises(EmbeddedServerError, match="make setup"):
        own_servers.start_redis()


def test_an_environment_without_triton_names_make_setup(
    own_servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    monkeypatch.setenv("TAGGER_SERVERS_ENV", str(tmp_path))
    with pytest.raises(EmbeddedServerError, match=r"no Triton .* `make setup`"):
        own_servers.start_triton(tmp_path)


@pytest.mark.usefixtures("path_with_java_only")
def test_missing_jars_without_maven_name_what_to_install(own_servers: Servers) -> None:
    with pytest.raises(EmbeddedServerError, match="apt-get install -y maven default-jre-headless"):
        own_servers.start_kafka("real")
    assert not kafka.can_run()


def test_a_failed_download_leaves_no_jars_and_shows_what_maven_said(
    path_with_java_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maven = path_with_java_only / "mvn"
    maven.write_text(_FAKE_MAVEN, encoding="utf-8")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path_with_java_only}:/bin:/usr/bin")
    with pytest.raises(EmbeddedServerError, match="could not resolve"):
        kafka.fetch_jars()
    assert not list(kafka.jars_folder().parent.iterdir())


def test_a_model_that_fails_to_load_is_an_error_with_the_reason(
    own_servers: Servers, tiny_repository: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "bad"
    shutil.copytree(tiny_repository, repository)
    (repository / "tiny" / "1" / "model.py").write_text("raise RuntimeError('no such weights')\n", encoding="utf-8")
    began_s = time.monotonic()
    with pytest.raises(EmbeddedServerError, match="no such weights") as caught:
        own_servers.start_triton(repository)
    assert time.monotonic() - began_s < 30
    assert "triton.log" in str(caught.value)


def test_a_missing_library_of_the_stub_is_named_before_anything_starts(
    servers_with_stub: Callable[[bytes], None], tiny_repository: Path, logs_dir: Path
) -> None:
    stub = programs()[1].read_bytes()
    servers_with_stub(re.sub(rb"libpython3\.\d\d\.so", b"libpython3.99.so", stub))
    began_s = time.monotonic()
    with pytest.raises(EmbeddedServerError) as caught, start_stack(logs_dir, tiny_repository, "mock"):
        pytest.fail("the stack started")
    assert time.monotonic() - began_s < 5
    assert "libpython3.99.so.1.0; apt-get install -y libpython3.99" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(logs_dir.glob("*"))
    with Servers(logs_dir) as owner, pytest.raises(EmbeddedServerError, match=r"; apt-get install -y libpython3\.99$"):
        owner.start_triton(tiny_repository)


def test_a_stub_that_dies_is_noticed_at_once(
    servers_with_stub: Callable[[bytes], None], own_servers: Servers, tiny_repository: Path
) -> None:
    servers_with_stub(Path("/bin/false").read_bytes())
    began_s = time.monotonic()
    with pytest.raises(EmbeddedServerError, match=r"triton cannot start: a process that it started has died"):
        own_servers.start_triton(tiny_repository)
    assert time.monotonic() - began_s < 10
    assert not leftovers.marked_pids(own_servers.folder.name)


def test_a_model_that_ends_its_process_is_noticed_at_once_and_its_log_shown(
    own_servers: Servers, tiny_repository: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "bad"
    shutil.copytree(tiny_repository, repository)
    code = "import os, sys\nprint('out of weights', file=sys.stderr, flush=True)\nos._exit(3)\n"
    (repository / "tiny" / "1" / "model.py").write_text(code, encoding="utf-8")
    began_s = time.monotonic()
    with pytest.raises(EmbeddedServerError, match="out of weights"):
        own_servers.start_triton(repository)
    assert time.monotonic() - began_s < 10


def test_without_java_a_real_stack_is_refused_before_anything_starts(
    tiny_repository: Path, logs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with (
        pytest.raises(EmbeddedServerError, match=r"^[^\n]* Java 17 [^\n]*apt-get install -y [^\n]*default-jre[^\n]*$"),
        start_stack(logs_dir, tiny_repository, "real"),
    ):
        pytest.fail("the stack started")
    assert not list(logs_dir.glob("*"))


def test_the_stack_stops_the_others_when_one_fails(tmp_path: Path, logs_dir: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="no model repository"), start_stack(logs_dir, tmp_path / "nowhere"):
        pytest.fail("the stack started")


def test_a_server_that_never_answers_is_an_error_and_is_killed(
    own_servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = own_servers.start_redis()
    redis.stop()
    monkeypatch.setattr(redis, "_spec", dataclasses.replace(redis._spec, answers=lambda: False, ready_timeout_s=1.0))
    with pytest.raises(EmbeddedServerError, match="did not answer within 1 s"):
        redis.start()
    assert not redis.running


def test_an_empty_model_version_is_named_instead_of_waited_for(
    servers: Servers, tiny_repository: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "models"
    shutil.copytree(tiny_repository, repository)
    (repository / "tiny" / "2" / "__pycache__").mkdir(parents=True)
    with pytest.raises(EmbeddedServerError, match="tiny/2 is empty"):
        servers.start_triton(repository, name="empty-version")
