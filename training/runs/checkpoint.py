"""Checkpoints: all that resuming needs, in one file that is replaced atomically."""

import ast
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.errors import RunError
from training.serving.files import sync


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes content so that a reader finds the old file or the new one, also after a kill or a power cut."""
    staged = path.with_name(f".{path.name}.new")
    with staged.open("wb") as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    staged.rename(path)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Writes a small file atomically, by rename."""
    staged = path.with_name(f".{path.name}.new")
    staged.write_text(text)
    staged.rename(path)


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote.

    Raises:
        RunError: It cannot be read.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - unpickling broken bytes raises anything
        raise RunError(f"{path}: {type(error).__name__}: {error}") from None
    return content


def rng_state() -> dict[str, Any]:
    """The states of the global random number generators: python's, numpy's, torch's, and each GPU's."""
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - libraries may draw from it
    return {
        "python": repr(random.getstate()),
        "numpy": (str(kind), torch.from_numpy(np.asarray(keys, np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng(state: dict[str, Any]) -> None:
    """Sets every global random number generator to what `rng_state` returned."""
    version, internal, gauss = ast.literal_eval(state["python"])
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002 - as above
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
