"""The dynamic linker tells what a program lacks, all of it, and one line tells which package brings it."""

import re
from pathlib import Path

import pytest

from consumer.embedded.paths import library_path
from consumer.embedded.preflight import missing_libraries, missing_text, package_of
from consumer.embedded.process import EmbeddedServerError


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A real program that needs a library which is nowhere."""
    # As long as the name that it replaces, so that nothing in the file moves.
    code = Path("/bin/true").read_bytes().replace(b"libc.so.6", b"libz.so.9")
    assert b"libz.so.9" in code
    (tmp_path / "program").write_bytes(code)
    return tmp_path / "program"


def test_what_a_program_lacks_is_found_and_a_whole_one_lacks_nothing(program: Path) -> None:
    assert missing_libraries([program, Path("/bin/true")], {}) == ["libz.so.9"]
    assert missing_libraries([Path("/bin/true")], {}) == []


def test_a_library_on_the_search_path_is_not_missing(program: Path, tmp_path: Path) -> None:
    libc = next(Path("/").glob("lib*/x86_64-linux-gnu/libc.so.6"))
    (tmp_path / "libz.so.9").symlink_to(libc)
    assert missing_libraries([program], {"LD_LIBRARY_PATH": str(tmp_path)}) == []


def test_what_is_no_program_for_this_machine_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n", encoding="utf-8")
    with pytest.raises(EmbeddedServerError, match=r"^cannot run \S+/script: [^\n]+$"):
        missing_libraries([tmp_path / "script"], {})


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libpython3.11.so.1.0", "libpython3.11"),
        ("libpython3.13.so.1.0", "libpython3.13"),
        ("libstdc++.so.6", "libstdc++6"),
        ("libz.so.1", "zlib1g"),
        ("libzz.so.1", None),
    ],
)
def test_the_debian_package_of_a_library(library: str, package: str | None) -> None:
    assert package_of(library) == package


def test_one_line_names_what_is_missing(program: Path) -> None:
    said = missing_text(missing_libraries([program], {}))
    assert re.search(r"^[^\n]+ missing here: libz\.so\.9; install what brings them$", said)
    assert missing_text(["libz.so.1", "libstdc++.so.6"]).endswith("; apt-get install -y libstdc++6 zlib1g")


def test_unpacked_packages_come_before_what_this_process_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGGER_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/given")
    unpacked = [f"{tmp_path}/debian/{folder}/x86_64-linux-gnu" for folder in ("usr/lib", "lib")]
    assert library_path(Path("/own")).split(":") == ["/own", *unpacked, "/given"]
    monkeypatch.delenv("LD_LIBRARY_PATH")
    assert library_path(Path("/own")).split(":") == ["/own", *unpacked]
