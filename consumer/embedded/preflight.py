"""What a machine must have before an embedded server starts there: libraries, Java, free disk and shared memory.

`python -m consumer.embedded.preflight LEVEL` is what `scripts/setup` asks. It prints two lines of Debian packages: the
required ones and the optional ones of the level. Where no package helps, it prints the reason and exits with 1. It
needs the standard library alone, since it runs before anything is installed.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from consumer.embedded import kafka
from consumer.embedded.leftovers import SHARED_MEMORY
from consumer.embedded.paths import CACHE_VARIABLE, repository_root, unpacked_folders
from consumer.embedded.process import EmbeddedServerError
from consumer.embedded.triton import environment_variables, loads, programs

_MIB = 1024 * 1024
#: Triton takes 16 MiB for the two models of the repository, two instances of each.
_SHARED_MEMORY_MIB = 24
#: Kafka's data and the logs of a run.
_TEMPORARY_MIB = 200
#: The servers' environment: 480 MB installed, and the largest wheel (80 MB) beside it.
_SERVERS_MIB = 600
#: What the levels of `scripts/setup` install, with the installer's caches; and the requirements that contain a level.
_INSTALLED_MIB = {"demo": 1500, "models": 9000, "test": 9000}
_INSTALLED_BY = {"demo": ("embedded", "training", "dev"), "models": ("training", "dev"), "test": ("dev",)}

#: The x86-64 ABI fixes this path; NVIDIA's wheel has programs for no other machine.
_LINKER = Path("/lib64/ld-linux-x86-64.so.2")
_LINKER_TIMEOUT_S = 3.0
_NOT_FOUND = re.compile(r"(\S+) => not found|version `([^']+)' not found")
#: Debian packages of the libraries that the wheels' programs need and the wheels do not contain; every Debian has libc.
_PACKAGES = {
    r"libpython(3\.\d+)\.so\.1\.0": r"libpython\1",
    r"libstdc\+\+\.so\.6": "libstdc++6",
    r"libgcc_s\.so\.1": "libgcc-s1",
    r"libz\.so\.1": "zlib1g",
    r"libexpat\.so\.1": "libexpat1",
}

#: The free bytes of a folder's file system.
FreeBytes = Callable[[Path], int]


def free_bytes(folder: Path) -> int:
    """Returns what an unprivileged user can still write there."""
    return shutil.disk_usage(folder).free


def require_room(free: FreeBytes = free_bytes) -> None:
    """Checks the disk and the shared memory that the servers' data needs.

    Raises:
        EmbeddedServerError: Too little is free; one line with the remedy.
    """
    _require_free(Path(tempfile.gettempdir()), _TEMPORARY_MIB, "make room there, or let TMPDIR name another", free)
    _require_free(
        SHARED_MEMORY,
        _SHARED_MEMORY_MIB,
        f"mount -o remount,size=256M {SHARED_MEMORY} (in a container: docker run --shm-size=256m)",
        free,
    )


def require_stack(kafka_mode: str, free: FreeBytes = free_bytes, *, install_into: Path | None = None) -> None:
    """Checks that Kafka, Redis and Triton can start here; takes a fraction of a second.

    Args:
        kafka_mode: As `start_stack` takes it; only "real" requires Java.
        free: The free bytes of a folder.
        install_into: Where the servers' environment will be installed, if that is still to be done.

    Raises:
        EmbeddedServerError: Something is missing; one line that names it and the command that brings it.
    """
    if install_into is not None:
        _require_free(install_into, _SERVERS_MIB, f"make room there, or let {CACHE_VARIABLE} name another", free)
    require_room(free)
    require_libraries(installed=install_into is None)
    if kafka_mode == "real":
        kafka.require_java_and_maven()


def require_libraries(*, installed: bool = True) -> None:
    """Checks that Triton's programs would find their shared libraries; before it is installed, those that are known.

    Raises:
        EmbeddedServerError: They would not; one line with the names and the command that installs them.
    """
    if missing := _missing_here(installed=installed):
        raise EmbeddedServerError(missing_text(missing))


def missing_packages(level: str) -> tuple[list[str], list[str]]:
    """Returns the required and the optional Debian packages that are missing for a level of `scripts/setup`.

    Raises:
        EmbeddedServerError: A library is missing whose package is not known.
    """
    libraries = _missing_here(installed=False)
    needed = [package for library in libraries if (package := package_of(library))]
    if len(needed) < len(libraries):
        raise EmbeddedServerError(missing_text(libraries))
    optional = [] if level == "models" else kafka.missing_packages()
    if level == "test":
        optional += [] if shutil.which("redis-server") else ["redis-server"]
        needed, optional = needed + optional, []
    return needed, optional


def missing_libraries(programs: Iterable[Path], env: Mapping[str, str]) -> list[str]:
    """Returns the names of the libraries that the programs need and would not find in this environment.

    The dynamic linker itself is asked, so that no list of ours can be incomplete.

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
                timeout=_LINKER_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            message = f"the embedded Triton needs glibc on x86-64: {error}"
            raise EmbeddedServerError(message) from error
        found = {library or version for library, version in _NOT_FOUND.findall(listed.stdout + listed.stderr)}
        if listed.returncode != 0 and not found:
            message = f"cannot run {program}: {(listed.stderr or listed.stdout).strip()}"
            raise EmbeddedServerError(message)
        missing |= found
    return sorted(missing)


def package_of(library: str) -> str | None:
    """Returns the Debian package that contains a library, or None if it is not known."""
    matches = ((re.fullmatch(pattern, library), package) for pattern, package in _PACKAGES.items())
    return next((match.expand(package) for match, package in matches if match), None)


def missing_text(missing: Sequence[str]) -> str:
    """Returns one line that names missing libraries and the command that installs them."""
    packages = sorted({package for library in missing if (package := package_of(library))})
    remedy = f"apt-get install -y {' '.join(packages)}" if packages else "install what brings them"
    return f"the embedded Triton needs shared libraries that are missing here: {', '.join(missing)}; {remedy}"


def _missing_here(*, installed: bool) -> list[str]:
    try:
        wanted, env = programs(), environment_variables()
    except EmbeddedServerError:
        if installed:
            raise
    else:
        return missing_libraries(wanted, env)
    # The stub will need the library of this Python, from which the servers' environment is made.
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    return [] if loads(name, (*unpacked_folders(), Path(sys.base_prefix, "lib"))) else [name]


def _require_free(folder: Path, needed_mib: int, remedy: str, free: FreeBytes) -> None:
    try:
        free_mib = free(folder) // _MIB
    except OSError as error:
        message = f"cannot use {folder}: {error.strerror}; {remedy}"
        raise EmbeddedServerError(message) from error
    if free_mib < needed_mib:
        message = f"{folder} has {free_mib} MiB free, and {needed_mib} MiB are needed; {remedy}"
        raise EmbeddedServerError(message)


def main(level: str, root: Path, free: FreeBytes = free_bytes) -> int:
    """Prints the packages that a level lacks, for the environment in a root folder; returns the exit code."""
    try:
        require_room(free)
        if not any((root / ".venv" / f".installed-{requirements}").exists() for requirements in _INSTALLED_BY[level]):
            _require_free(root, _INSTALLED_MIB[level], "make room there", free)
        needed, optional = missing_packages(level)
    except EmbeddedServerError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print(*needed)  # noqa: T201
    print(*optional)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], repository_root() or Path.cwd()))
