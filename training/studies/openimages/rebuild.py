"""The manifest that a result can be rebuilt from: data, code, environment, and what came out.

It holds no time, no path and no machine, so that a rebuild's manifest is the same to the bit.
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


def code() -> dict[str, str]:
    """The commit, and a hash of every source of the package, whether committed or not."""
    digest = hashlib.sha256()
    for path in sorted(_SOURCES.rglob("*.py")):
        digest.update(f"{path.relative_to(_SOURCES)}\n".encode())
        digest.update(path.read_bytes())
    return {"git_commit": git_commit(_SOURCES) or "", "sha256": digest.hexdigest()}


def environment() -> dict[str, Any]:
    """Python and the packages that the numbers depend on."""
    return {"python": platform.python_version(), "packages": {name: version(name) for name in _PACKAGES}}


def manifest_of(
    crops: Sequence[Photo], lists: Mapping[str, Path], settings: Mapping[str, Any], metrics: Mapping[str, float]
) -> dict[str, Any]:
    """The manifest of a run: hashes of the crops and the lists, code, environment, settings, metrics."""
    entries = [
        {"id": crop.id, "class": crop.label, "split": crop.split, "sha256": crop.sha256}
        for crop in sorted(crops, key=lambda crop: crop.id)
    ]
    hashed = {name: _sha256(path) for name, path in lists.items()}
    data_sha256 = hashlib.sha256(json.dumps([entries, hashed], sort_keys=True).encode()).hexdigest()
    return {
        "data": {"sha256": data_sha256, "lists": hashed, "crops": entries},
        "code": code(),
        "environment": environment(),
        "settings": dict(settings),
        "metrics": {name: round(value, _DECIMALS) for name, value in metrics.items()},
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def text_of(manifest: Mapping[str, Any]) -> str:
    """The manifest's file."""
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"


def commands(manifest: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """What rebuilds the result on another machine."""
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
        f"photo-trainer fetch-openimages --data DIR {classes}",
        f"photo-trainer study openimages --data DIR{flags} --seed {settings['seed']}{chosen} --set manifest={name}",
    )


def compare(mine: Mapping[str, Any], path: Path) -> str:
    """Says that a rebuild is equal to a manifest.

    Raises:
        DataError: It is not, and in which part; or there is no such manifest.
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
    """Torch computes on one thread, since sums depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
