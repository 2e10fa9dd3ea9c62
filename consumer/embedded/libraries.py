"""Shared libraries that a server's programs need: which are missing, and the Debian package that brings each.

The dynamic linker itself is asked, so nothing that a program needs can be forgotten in a list.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from consumer.embedded.paths import cache_folder
from consumer.embedded.process import EmbeddedServerError

#: The x86-64 ABI fixes this path; NVIDIA's wheel has programs for no other machine.
_LINKER = Path("/lib64/ld-linux-x86-64.so.2")
_TIMEOUT_S = 3.0
_MISSING = re.compile(r"(\S+) => not found|version `([^']+)' not found")
#: Of what the programs in the wheels need and do not carry along; libc is left out, since nobody can do without it.
_PACKAGES = {
    r"libpython(3\.\d+)\.so\.1\.0": r"libpython\1",
    r"libstdc\+\+\.so\.6": "libstdc++6",
    r"libgcc_s\.so\.1": "libgcc-s1",
    r"libz\.so\.1": "zlib1g",
    r"libexpat\.so\.1": "libexpat1",
}


def missing_libraries(programs: Iterable[Path], env: Mapping[str, str]) -> list[str]:
    """Returns the names of the libraries that the programs need and would not find in this environment.

    Raises:
        EmbeddedServerError: A program cannot run on this machine at all: no glibc for x86-64, or not a program.
    """
    missing = set[str]()
    for program in programs:
        try:
            listed = subprocess.run(
                # As ldd does; with --list it would end at the first that is missing.
                [_LINKER, program],
                env={**env, "LD_TRACE_LOADED_OBJECTS": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            message = f"the embedded Triton needs glibc on x86-64: {error}"
            raise EmbeddedServerError(message) from error
        found = {library or version for library, version in _MISSING.findall(listed.stdout + listed.stderr)}
        if listed.returncode != 0 and not found:
            message = f"cannot run {program}: {(listed.stderr or listed.stdout).strip()}"
            raise EmbeddedServerError(message)
        missing |= found
    return sorted(missing)


def package_of(library: str) -> str | None:
    """Returns the Debian package that brings a library; None for one that is not known."""
    for pattern, package in _PACKAGES.items():
        match = re.fullmatch(pattern, library)
        if match:
            return match.expand(package)
    return None


def require_libraries(programs: Iterable[Path], env: Mapping[str, str]) -> None:
    """Returns if the programs would find their libraries.

    Raises:
        EmbeddedServerError: They would not; one line with the names and the command that installs them.
    """
    missing = missing_libraries(programs, env)
    if missing:
        packages = sorted({package for library in missing if (package := package_of(library))})
        remedy = f"apt-get install -y {' '.join(packages)}" if packages else "install what brings them"
        message = f"the embedded Triton needs shared libraries that are missing here: {', '.join(missing)}; {remedy}"
        raise EmbeddedServerError(message)


def unpacked_folders() -> list[Path]:
    """Where libraries lie that `scripts/setup` unpacked from Debian packages, for users without root."""
    return [cache_folder() / "debian" / folder / "x86_64-linux-gnu" for folder in ("usr/lib", "lib")]


def library_path(*folders: Path) -> str:
    """Returns an LD_LIBRARY_PATH: these folders, what was unpacked, then what this process was given."""
    inherited = os.environ.get("LD_LIBRARY_PATH")
    return os.pathsep.join([*map(str, (*folders, *unpacked_folders())), *([inherited] if inherited else [])])
