"""The manifest that a result can be reproduced from: data, code, environment, settings and metrics.

It has no time, path or machine name, so that the manifest of a rebuild is identical.
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Any, Final

import torch

from training.data.photos import Photo
from training.environment import git_commit
from training.errors import DataError

_PACKAGES: Final = ("numpy", "pillow", "scikit-learn", "torch")
_SOURCES: Final = Path(__file__).parents[2]
_DECIMALS: Final = 6
#: Where `scripts/setup` puts the command.
_TRAINER: Final = ".venv/bin/photo-trainer"


def _code() -> dict[str, str]:
    """The commit, and a hash of every source file of the package, whether committed or not."""
    digest = hashlib.sha256()
    for path in sorted(_SOURCES.rglob("*.py")):
        digest.update(f"{path.relative_to(_SOURCES)}\n".encode())
        digest.update(path.read_bytes())
    return {"git_commit": git_commit(_SOURCES) or "", "sha256": digest.hexdigest()}


def manifest_of(
    crops: Sequence[Photo], lists: Mapping[str, str], settings: Mapping[str, Any], metrics: Mapping[str, float]
) -> dict[str, Any]:
    """The manifest of a run: hashes of the crops and of the lists, code, environment, settings, metrics."""
    entries = [
        {"id": crop.id, "class": crop.label, "split": crop.split, "sha256": crop.sha256}
        for crop in sorted(crops, key=lambda crop: crop.id)
    ]
    data_sha256 = hashlib.sha256(json.dumps([entries, dict(lists)], sort_keys=True).encode()).hexdigest()
    return {
        "data": {"sha256": data_sha256, "lists": dict(lists), "crops": entries},
        "code": _code(),
        "environment": {"python": platform.python_version(), "packages": {name: version(name) for name in _PACKAGES}},
        "settings": dict(settings),
        "metrics": {name: round(value, _DECIMALS) for name, value in metrics.items()},
    }


def commands(manifest: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The commands that rebuild the result in a clone of the repository on another machine."""
    settings = manifest["settings"]
    classes = " ".join(f"--class {quote(name)}" for name in settings["classes"])
    flags = " --as-published" if settings["as_published"] else ""
    chosen = "".join(
        f" --set {quote(f'{key}={json.dumps(value)}')}"
        for key, value in settings.items()
        if key not in {"as_published", "seed"}
    )
    return (
        f"git checkout {manifest['code']['git_commit']}",
        "scripts/setup models",
        f"{_TRAINER} fetch-openimages --data DIR {classes}",
        f"{_TRAINER} study openimages --data DIR{flags} --seed {settings['seed']}{chosen} --set manifest={name}",
    )


def commands_with_package(manifest: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """As `commands`, from a package of the crops: nothing is asked of the photo host."""
    return tuple(
        line.replace("--data DIR", "--data PACKAGE") for line in commands(manifest, name) if "fetch-" not in line
    )


def compare(mine: Mapping[str, Any], path: Path) -> str:
    """Compares a rebuild with a manifest; returns a note that they are equal.

    Raises:
        DataError: They differ, and in which part; or the file is not a manifest.
    """
    try:
        theirs = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a manifest: {error}") from None
    parts = ("data", "code", "environment", "settings", "metrics")
    other = [part for part in parts if mine[part] != theirs.get(part)]
    if other:
        raise DataError(f"the rebuild differs from {path.name} in {', '.join(other)}")
    return f"Rebuilt: data, code, environment, settings and metrics are equal to those of {path.name}."


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread, since sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
