"""The wheel as others install it: the demo outside a checkout, and the reader beside `redis` alone, with its types."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from consumer.embedded.paths import SERVERS_ENV_VARIABLE, cache_folder, free_port, servers_environment
from consumer.redis.schema import bucket, fields_of, index_prefix, photo_key
from tests.fakes import tags

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("reader_script.py")
UV = Path(sys.executable).parent / "uv"

pytestmark = pytest.mark.timeout(240)


def run(*argv: str | Path, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command that finds nothing of this checkout by itself."""
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return subprocess.run(
        argv, cwd=cwd, env={**clean, **(env or {})}, capture_output=True, text=True, check=False, timeout=200
    )


def must(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def new_environment(folder: Path, *packages: str | Path) -> Path:
    """The Python of an environment that holds these and what they ask for, in the versions that are tested."""
    must(run(UV, "venv", "--quiet", "--python", sys.executable, folder, cwd=folder.parent))
    install = (UV, "pip", "install", "--quiet", "--python", folder / "bin" / "python")
    must(run(*install, "--constraint", ROOT / "requirements" / "embedded.txt", *packages, cwd=folder.parent))
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, so that this holds all that the wheel needs."""
    folder = tmp_path_factory.mktemp("dist")
    must(run(UV, "build", "--quiet", "--python", sys.executable, "--out-dir", folder, cwd=ROOT))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def reader_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing but `redis`, and the wheel without what it asks for."""
    folder = tmp_path_factory.mktemp("reader")
    python = new_environment(folder / "environment", "redis")
    must(run(UV, "pip", "install", "--quiet", "--no-deps", "--python", python, wheel, cwd=folder))
    return python


def test_the_demo_runs_from_another_folder_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path / "environment", f"{wheel}[embedded]")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shared = {SERVERS_ENV_VARIABLE: str(servers_environment()), "TAGGER_CACHE_DIR": str(cache_folder())}
    said = must(run(python.with_name("photo-tagger"), "demo", cwd=elsewhere, env=shared))
    assert "tagged 28 \u00b7 dead-lettered 4" in said
    assert "make " not in said
    for page in ("gallery.html", "change.html"):
        assert (elsewhere / "demo-output" / page).is_file()
    assert [entry.name for entry in elsewhere.iterdir()] == ["demo-output"]


def test_without_the_extra_the_command_line_works(wheel: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path / "environment", wheel)
    assert must(run(python.with_name("photo-tagger"), "version", cwd=tmp_path)).strip() in wheel.name


def test_the_reader_works_where_only_redis_is_installed(reader_python: Path, redis_db: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(redis_db) as client:
        for photo_id in ("photo-1", "photo-2"):
            client.hset(photo_key(photo_id), mapping=fields_of(tags(photo_id=photo_id)))
            client.zadd(index_prefix(bucket(photo_id)) + "crimson", {photo_id: 0.75})
    said = must(run(reader_python, SCRIPT, redis_db, f"redis://127.0.0.1:{free_port()}/0", cwd=tmp_path))
    assert said.splitlines() == [
        "get photo-1 0.75 crimson",
        "get_many photo-1 photo-2",
        "find photo-2 0.75 photo-1 0.75",
        "watch needs confluent_kafka",
        "async photo-2 photo-1",
        "refused ConnectionError",
    ]


def test_an_installed_reader_is_typed_in_strict_mode(reader_python: Path, tmp_path: Path) -> None:
    mypy = (sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path / "cache")
    checked = run(*mypy, "--python-executable", reader_python, SCRIPT, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (tmp_path / "wrong.py").write_text(
        "from consumer.reader import TagReader\n\nscore: str = TagReader('').get_many([1])['a'].quality.score\n"
    )
    wrong = run(*mypy, "--python-executable", reader_python, "wrong.py", cwd=tmp_path)
    assert {line.rpartition("[")[2] for line in wrong.stdout.splitlines()[:-1]} == {"assignment]", "list-item]"}
