"""What a machine must have before an embedded server starts there: libraries, Java, room on disk and in memory.

`python -m consumer.embedded.preflight LEVEL` is what `scripts/setup` asks. It prints two lines of Debian packages:
those that the level needs, and those that it can do without; where no package helps, it says so and exits with 1. The
standard library is enough, since it runs before anything is installed.
"""

import ctypes
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from consumer.embedded import kafka
from consumer.embedded.leftovers import SHARED_MEMORY
from consumer.embedded.libraries import missing_libraries, package_of, require_libraries, unpacked_folders
from consumer.embedded.paths import repository_root, servers_environment
from consumer.embedded.process import EmbeddedServerError
from consumer.embedded.triton import environment_variables, programs

_MIB = 1024 * 1024
#: Triton takes 16 MiB for the two models of the repository, two instances of each.
_SHARED_MEMORY_MIB = 24
#: Kafka's data and the logs of a run.
_TEMPORARY_MIB = 200
#: What the levels of `scripts/setup` install, with the caches of what installs it; and who has it already.
_INSTALLED_MIB = {"demo": 1500, "models": 9000, "test": 9000}
_INSTALLED_BY = {"demo": ("embedded", "training", "dev"), "models": ("training", "dev"), "test": ("dev",)}

#: Tells the free bytes of a folder.
FreeBytes = Callable[[Path], int]


def free_bytes(folder: Path) -> int:
    """Returns what a user without special rights can still write there."""
    return shutil.disk_usage(folder).free


def require_room(free: FreeBytes = free_bytes) -> None:
    """Returns if there is room for the servers' data.

    Raises:
        EmbeddedServerError: There is not; one line with the remedy.
    """
    _require_free(Path(tempfile.gettempdir()), _TEMPORARY_MIB, "make room there, or let TMPDIR name another", free)
    _require_free(
        SHARED_MEMORY,
        _SHARED_MEMORY_MIB,
        f"mount -o remount,size=256M {SHARED_MEMORY} (in a container: docker run --shm-size=256m)",
        free,
    )


def require_stack(kafka_mode: str, free: FreeBytes = free_bytes) -> None:
    """Returns if Kafka, Redis and Triton can start here; takes a fraction of a second.

    Args:
        kafka_mode: As `start_stack` takes it; only "real" cannot do without Java.
        free: Tells the free bytes of a folder.

    Raises:
        EmbeddedServerError: Something is missing; one line that names it and the command that brings it.
    """
    require_room(free)
    environment = servers_environment()
    require_libraries(programs(environment), environment_variables(environment))
    if kafka_mode == "real" and (packages := kafka.missing_packages()):
        message = (
            f"the embedded Kafka needs Java {kafka.OLDEST_JAVA} and Maven: apt-get install -y {' '.join(packages)}"
        )
        raise EmbeddedServerError(message)


def missing_packages(level: str) -> tuple[list[str], list[str]]:
    """Returns the Debian packages that a level of `scripts/setup` needs, and those that it can do without.

    Raises:
        EmbeddedServerError: A library is missing that no known package brings.
    """
    needed = []
    for library in _missing_libraries():
        package = package_of(library)
        if package is None:
            message = f"the embedded Triton needs {library}, which is missing here; install what brings it"
            raise EmbeddedServerError(message)
        needed.append(package)
    optional = [] if level == "models" else kafka.missing_packages()
    if level == "test":
        optional += [] if shutil.which("redis-server") else ["redis-server"]
        needed, optional = needed + optional, []
    return needed, optional


def _missing_libraries() -> list[str]:
    try:
        environment = servers_environment()
        wanted = programs(environment)
    except EmbeddedServerError:
        # Triton is not there yet. Its stub will need the library of this Python, from which its environment is made.
        name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
        return [] if _loads(name, (*unpacked_folders(), Path(sys.base_prefix, "lib"))) else [name]
    return missing_libraries(wanted, environment_variables(environment))


def _loads(library: str, folders: Sequence[Path]) -> bool:
    for candidate in (*(str(folder / library) for folder in folders), library):
        try:
            ctypes.CDLL(candidate)
        except OSError:
            continue
        return True
    return False


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
