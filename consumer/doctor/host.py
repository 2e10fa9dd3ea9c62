"""This machine: cores, memory, files, disk, and what the settings name on it."""

import importlib.util
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from consumer.doctor.findings import Finding, Findings, failure, ok, warning
from consumer.settings import Settings
from consumer.settings.cores import cores

_MB: Final = 1024 * 1024
#: A worker with nothing in flight (docs/explanation/sizing.md).
_WORKER_BYTES: Final = 180 * _MB
#: Of a worker beside its photos: libraries, logs, connections to Kafka, Redis and Triton.
_OTHER_FILES: Final = 128
_LEAST_DISK: Final = 500 * _MB
_LEAST_SHARED: Final = 64 * _MB
_SHARED: Final = Path("/dev/shm")  # noqa: S108 - it is looked at
_OPTIONAL: Final = {"heic": "pillow_heif", "s3": "obstore"}


def examine(settings: Settings, root: Path = Path("/")) -> Findings:
    """Looks at this machine as the service would find it.

    Yields:
        The findings.
    """
    yield _cores(settings)
    yield _memory(settings, root)
    yield _files(settings, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield _shared_memory(_SHARED)
    yield from _disks(settings)
    yield from _named(settings)


def _cores(settings: Settings) -> Finding:
    count, workers, threads = cores(), settings.service.workers, settings.prepare.threads
    shown = f"{count} cores, {workers} workers with {threads} decoding threads each"
    if workers * threads > 2 * count:
        return warning("host", "cores", shown, "they wait for each other: fewer service.workers or prepare.threads")
    return ok("host", "cores", shown)


def _memory(settings: Settings, root: Path) -> Finding:
    """The memory that the settings allow the workers, beside what this process may take."""
    service, workers = settings.service, settings.service.workers
    least = workers * (_WORKER_BYTES + service.max_in_flight_bytes)
    # Bytes as they were fetched, pixels that wait for Triton, decodes, and records that wait for a retry.
    each = 2 * service.max_in_flight_bytes + settings.prepare.max_decode_bytes + settings.retry.max_waiting_bytes
    most = workers * (_WORKER_BYTES + each)
    limit = memory_limit(root)
    shown = f"{limit / _MB:,.0f} MiB at hand, the settings allow up to {most / _MB:,.0f} MiB to {workers} workers"
    advice = "fewer service.workers, or less service.max_in_flight_bytes and prepare.max_decode_bytes"
    if limit < least:
        return failure("host", "memory", f"{shown}, who need {least / _MB:,.0f} MiB", advice)
    return warning("host", "memory", shown, advice) if limit < most else ok("host", "memory", shown)


def memory_limit(root: Path = Path("/")) -> int:
    """The bytes that this process may take: the host's, within the limits of its control groups."""
    lines = _text(root / "proc/meminfo").splitlines()
    total = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")), 2**62)
    return min([total, *_group_limits(root)])


def _group_limits(root: Path) -> Iterator[int]:
    """The limits of this process's control groups, from its own to the root's; version 2, and version 1.

    Yields:
        Bytes; nothing for a group without a limit.
    """
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        own = Path(path.lstrip("/"))
        for group in (own, *own.parents):
            if not controllers:
                limit = _text(mount / group / "memory.max")
            elif "memory" in controllers.split(","):
                limit = _text(mount / "memory" / group / "memory.limit_in_bytes")
            else:
                break
            if limit.strip().isdecimal():
                yield int(limit)


def _files(settings: Settings, limit: int) -> Finding:
    needed = _OTHER_FILES + settings.service.max_in_flight + settings.prepare.threads
    shown = f"{'any number of' if limit == resource.RLIM_INFINITY else limit} open files, a worker needs {needed}"
    advice = "raise it: `ulimit -n 65536`, LimitNOFILE= in systemd, ulimits: in Compose"
    if limit == resource.RLIM_INFINITY or limit >= 2 * needed:
        return ok("host", "open files", shown)
    return (failure if limit < needed else warning)("host", "open files", shown, advice)


def _shared_memory(folder: Path) -> Finding:
    """Triton's python backend passes its tensors there, if it runs on this machine."""
    if not folder.is_dir():
        return ok("host", "shared memory", f"no {folder} here; only a Triton on this machine needs it")
    free = shutil.disk_usage(folder).free
    shown = f"{free / _MB:,.0f} MiB free in {folder}"
    if free < _LEAST_SHARED:
        advice = "a Triton on this machine needs more: `--shm-size=1g` of its container"
        return warning("host", "shared memory", shown, advice)
    return ok("host", "shared memory", shown)


def _disks(settings: Settings) -> Findings:
    """Whether there is room where things are written.

    Yields:
        A finding for each folder.
    """
    for about, folder in (("temporary files", Path(tempfile.gettempdir())), ("repository", settings.triton.repository)):
        if folder is None:
            continue
        if not folder.is_dir():
            yield failure(
                "host", about, f"{folder} is no folder", "let triton.repository name the folder of the models"
            )
            continue
        free = shutil.disk_usage(folder).free
        shown = f"{free / _MB:,.0f} MiB free in {folder}"
        least = free < _LEAST_DISK
        yield warning("host", about, shown, "make room there") if least else ok("host", about, shown)


def _named(settings: Settings) -> Findings:
    """What the settings of the fetch and of the decode need on this machine.

    Yields:
        A failure for each that is not there.
    """
    root = settings.fetch.file_root
    if "file" in settings.fetch.schemes and (
        root is None or not (root.is_dir() and os.access(root, os.R_OK | os.X_OK))
    ):
        detail = "fetch.file_root is not set" if root is None else f"{root} is no folder that can be read"
        yield failure("host", "photos in files", detail, "mount it, or let fetch.file_root name it")
    wanted = {"heic": settings.prepare.heic, "s3": bool(settings.fetch.stores)}
    for extra, package in _OPTIONAL.items():
        if wanted[extra] and importlib.util.find_spec(package) is None:
            detail = f"the settings ask for it, and {package} is not installed"
            yield failure("host", extra, detail, f"pip install 'photo-tagger[{extra}]'")


def _text(path: Path) -> str:
    """What a file says; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
