"""The files of a published version: names, how far the outputs of each may be from the float32 graph's, hashes.

Without torch and onnx: the builder of engines reads them inside the serving image.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

MANIFEST: Final = "MANIFEST.json"
FP32_FILE: Final = "model.onnx"
FP16_FILE: Final = "model.fp16.onnx"
INT8_FILE: Final = "model.int8.onnx"
#: The engine that a GPU's machine builds from a graph; no file of a published version.
PLAN_FILE: Final = "model.plan"
#: Share of photos on which a variant must decide as torch does.
LEAST_AGREEMENT: Final = 0.995
#: Largest difference of any output from torch's, by file: weights of the first are rounded, the second is computed with
#: such numbers. int8 changes single probabilities a lot where two classes are close; its decisions count.
TOLERANCES: Final = {FP32_FILE: 1e-2, FP16_FILE: 2e-2, INT8_FILE: float("inf")}


def sha256(path: Path) -> str:
    """Hex digest of a file. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flushes a file or directory to disk, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
