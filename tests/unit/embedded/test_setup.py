"""`scripts/setup` brings what the preflight names: by apt-get as root, without root unpacked, else one line."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from consumer.embedded.paths import repository_root

_PYTHON = """\
#!/bin/sh
case "$*" in
  *consumer.embedded.preflight*) echo "$NEEDED"; echo "$OPTIONAL" ;;
  *"import sys"* | *"import ensurepip"*) exit 0 ;;
  *) echo "reached the environment" >&2; exit 9 ;;
esac
"""
_APT_GET = """\
#!/bin/sh
echo "$*" >> "$APT_LOG"
case "$*" in
  *nowhere*) exit 100 ;;
  *update*) touch "$APT_LOG.updated" ;;
  *Dir::State*download*) [ -e "$APT_LOG.updated" ] && touch "$(eval echo \\${$#})_1_amd64.deb" ;;
  *download*) exit 100 ;;
esac
"""
_DPKG_DEB = """\
#!/bin/sh
mkdir -p "$3/usr/lib/x86_64-linux-gnu" && touch "$3/usr/lib/x86_64-linux-gnu/$(basename "$2")"
"""


class Machine:
    """A folder with the setup script and a PATH on which a few programs are faked."""

    def __init__(self, folder: Path, user: int) -> None:
        """Makes it; `user` is who `id -u` says that we are."""
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        (folder / "scripts").mkdir()
        shutil.copy(repository_root() / "scripts" / "setup", folder / "scripts" / "setup")
        for program in (
            "bash",
            "sh",
            "env",
            "dirname",
            "basename",
            "mkdir",
            "mktemp",
            "rm",
            "touch",
            "realpath",
            "cmp",
        ):
            (self.bin / program).symlink_to(shutil.which(program) or program)
        self.fake("python3.11", _PYTHON)
        self.fake("id", f"#!/bin/sh\necho {user}\n")

    def fake(self, program: str, code: str) -> None:
        (self.bin / program).write_text(code, encoding="utf-8")
        (self.bin / program).chmod(0o755)

    def with_apt(self) -> "Machine":
        self.fake("apt-get", _APT_GET)
        self.fake("dpkg-deb", _DPKG_DEB)
        return self

    def setup(self, level: str, needed: str = "", optional: str = "") -> "subprocess.CompletedProcess[str]":
        env = {"PATH": str(self.bin), "NEEDED": needed, "OPTIONAL": optional, "APT_LOG": str(self.folder / "apt.log")}
        return subprocess.run(
            [self.folder / "scripts" / "setup", level],
            env={**env, "TMPDIR": os.environ.get("TMPDIR", "/tmp")},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def apt_log(self) -> list[str]:
        return (self.folder / "apt.log").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def as_root(tmp_path: Path) -> Machine:
    return Machine(tmp_path, 0)


@pytest.fixture
def as_user(tmp_path: Path) -> Machine:
    return Machine(tmp_path, 1000)


def test_where_nothing_helps_one_line_names_the_command_at_once(as_user: Machine) -> None:
    began_s = time.monotonic()
    done = as_user.setup("demo", "libpython3.11")
    assert done.returncode == 1
    assert time.monotonic() - began_s < 5
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.endswith("sudo apt-get install -y --no-install-recommends libpython3.11\n")


def test_root_on_debian_gets_what_is_needed_and_what_is_optional(as_root: Machine) -> None:
    done = as_root.with_apt().setup("demo", "libpython3.11", "maven default-jre-headless")
    assert "reached the environment" in done.stderr
    installs = [line for line in as_root.apt_log() if line.startswith("install")]
    assert [line.rpartition("--no-install-recommends ")[2] for line in installs] == [
        "libpython3.11",
        "maven default-jre-headless",
    ]


def test_an_optional_package_that_cannot_be_had_stops_nothing(as_root: Machine) -> None:
    done = as_root.with_apt().setup("demo", "", "nowhere")
    assert "going on without nowhere" in done.stderr
    assert "reached the environment" in done.stderr


def test_a_needed_package_that_cannot_be_had_stops_with_the_command(as_root: Machine) -> None:
    done = as_root.with_apt().setup("demo", "nowhere")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("sudo apt-get install -y --no-install-recommends nowhere")


def test_without_root_a_library_is_unpacked_into_the_cache_with_fresh_package_lists(as_user: Machine) -> None:
    done = as_user.with_apt().setup("demo", "libpython3.11", "maven")
    assert "reached the environment" in done.stderr
    folder = as_user.folder / ".cache" / "debian" / "usr" / "lib" / "x86_64-linux-gnu"
    assert [file.name for file in folder.iterdir()] == ["libpython3.11_1_amd64.deb"]
    assert not any(line.startswith("install") for line in as_user.apt_log())


def test_without_root_only_libraries_are_unpacked(as_user: Machine) -> None:
    done = as_user.with_apt().setup("test", "libpython3.11 default-jre-headless")
    assert done.returncode == 1
    assert done.stderr.endswith("libpython3.11 default-jre-headless\n")
    assert len(done.stderr.splitlines()) == 1
    assert not (as_user.folder / ".cache").exists()


def test_a_machine_that_lacks_nothing_is_left_alone(as_user: Machine) -> None:
    done = as_user.with_apt().setup("demo")
    assert "reached the environment" in done.stderr
    assert not (as_user.folder / "apt.log").exists()
