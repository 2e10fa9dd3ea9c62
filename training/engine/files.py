"""The folder of engines, which Triton serves: a model repository of plans, beside the published one.

    ENGINES/MODEL/{labels.txt,configs/gpu.pbtxt,VERSION/{model.plan,ENGINE.json}}
    ENGINES/timing-TENSORRT-GPU.bin

A file appears whole or not at all. The plan is placed before its record: a record of another plan means that building
was cut off.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from training.engine.record import RECORD, Place, Record
from training.engine.source import CONFIG
from training.errors import EngineError
from training.serving.files import PLAN_FILE, sync

_LOCK: Final = ".lock"


@contextlib.contextmanager
def locked(engines: Path) -> Iterator[None]:
    """The folder, made where it is missing, for one builder at a time; a killed one leaves no lock.

    Yields:
        Nothing.

    Raises:
        EngineError: Another builder is at work, or the folder cannot be written.
    """
    try:
        engines.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(engines / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise EngineError(f"{engines} cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EngineError(f"another builder is at work in {engines}") from None
        yield
    finally:
        os.close(descriptor)


def place_file(engines: Path, name: str, body: bytes) -> None:
    """Writes a file of the folder so that others see the old one or the new one, and a power cut leaves one of them.

    It is staged in the folder itself: Triton hangs over a version's folder without a plan.

    Raises:
        EngineError: It cannot be written, such as on a full disk; the old one stays.
    """
    path, staged = engines / name, engines / f".{name.replace('/', '.')}.new"
    try:
        with staged.open("wb") as stream:
            stream.write(body)
            stream.flush()
            os.fsync(stream.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(path)
        sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)
        raise EngineError(f"{path} cannot be written: {error.strerror}") from None


def place_engine(engines: Path, plan: bytes, record: Record) -> None:
    """Writes an engine into the folder of its version.

    Raises:
        EngineError: It cannot be written.
    """
    folder = f"{record.model}/{record.version}"
    place_file(engines, f"{folder}/{PLAN_FILE}", plan)
    place_file(engines, f"{folder}/{RECORD}", record.text().encode())


def copy_configuration(repository: Path, engines: Path, model: str) -> None:
    """Brings labels and configuration of a model, which know the decisions of all its versions.

    Raises:
        EngineError: They cannot be read or written.
    """
    for name in (f"{model}/configs/{CONFIG}", f"{model}/labels.txt"):
        try:
            body = (repository / name).read_bytes()
            same = (engines / name).is_file() and (engines / name).read_bytes() == body
        except OSError as error:
            raise EngineError(f"{repository / name} cannot be copied: {error.strerror}") from None
        if not same:
            place_file(engines, name, body)


def timing_file(place: Place) -> str:
    """Name of the file with measured timings, which make the next build faster.

    TensorRT takes none of another version or GPU.
    """
    gpu = re.sub(r"[^A-Za-z0-9]+", "-", place.gpu.name).strip("-")
    return f"timing-{place.tensorrt}-{gpu}.bin"


def read_timings(path: Path) -> bytes:
    """The timings that are there; none where there is no file, or it cannot be read: they only save time."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
