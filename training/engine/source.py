"""What a model repository offers to build engines from. It is only read: published versions never change."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from training.engine.record import Recipe
from training.errors import DataError, ToolMissing
from training.serving.files import FP16_FILE, FP32_FILE, INT8_FILE, MANIFEST, PLAN_FILE, TOLERANCES, sha256

#: The configuration whose plans are built here.
CONFIG: Final = "gpu.pbtxt"
FP16, INT8 = "fp16", "int8"
PRECISIONS: Final = (FP16, INT8)
_MAX_BATCH: Final = re.compile(r"^max_batch_size:\s*(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """A published version, to build an engine from."""

    model: str
    version: int
    folder: Path
    manifest: Mapping[str, Any]
    recipe: Recipe

    @property
    def name(self) -> str:
        """The version in messages."""
        return f"{self.model} {self.version}"

    @property
    def tolerance(self) -> float:
        """How far an engine's outputs may be from the float32 graph's: the manifest's word, else what fp16 may be."""
        stated = self.manifest["golden"]["tolerances"]
        if self.recipe.precision == INT8:
            return float(stated[INT8_FILE])
        return float(stated.get(PLAN_FILE, TOLERANCES[FP16_FILE]))

    def graph(self) -> bytes:
        """The ONNX graph for TensorRT: the published one, or one that is made of it.

        Raises:
            DataError: It cannot be read, or is an int8 graph that cannot be made symmetric.
            ToolMissing: It must be changed or looked into, and onnx is missing.
        """
        body = _read(self.folder / self.recipe.file)
        if self.recipe.file == FP16_FILE:
            return body
        return in_int8(body) if self.recipe.file == INT8_FILE else in_fp16(body)


def in_fp16(body: bytes) -> bytes:
    """A float32 graph in fp16, exactly as publishing makes it.

    Raises:
        ToolMissing: onnx is missing.
    """
    onnx = _onnx()
    from training.publish.precisions import to_fp16  # noqa: PLC0415 - imports onnx

    made: bytes = to_fp16(onnx.load_model_from_string(body)).SerializeToString(deterministic=True)
    return made


def in_int8(body: bytes) -> bytes:
    """An int8 graph as TensorRT takes it: symmetric. Those that are published for CPUs have other zero points.

    Raises:
        ToolMissing: onnx is missing.
        DataError: It cannot be made so.
    """
    onnx = _onnx()
    from training.engine.symmetric import symmetric, zero_points  # noqa: PLC0415 - imports onnx

    model = onnx.load_model_from_string(body)
    if not zero_points(model):
        return body
    try:
        even = symmetric(model)
    except KeyError as name:
        raise DataError(f"TensorRT takes symmetric int8 only, and {name} is no number in the graph") from None
    made: bytes = even.SerializeToString(deterministic=True)
    return made


def _onnx() -> Any:  # noqa: ANN401 - a module
    """The package onnx, which only versions without an fp16 file, and int8, need.

    Raises:
        ToolMissing: It is not installed.
    """
    try:
        return import_module("onnx")
    except ImportError:
        raise ToolMissing("onnx is needed to prepare the graph: pip install onnx") from None


def models_of(repository: Path, chosen: Sequence[str]) -> list[str]:
    """Models with a configuration for engines; of them the chosen, or all.

    Raises:
        DataError: The repository cannot be read, or has no such model.
    """
    try:
        found = sorted(entry.name for entry in repository.iterdir() if (entry / "configs" / CONFIG).is_file())
    except OSError as error:
        raise DataError(f"no model repository at {repository}: {error.strerror}") from None
    missing = [name for name in chosen if name not in found]
    if missing or not found:
        there = f"; there are {', '.join(found)}" if found else ""
        raise DataError(f"no model {', '.join(missing) or f'with configs/{CONFIG}'} in {repository}{there}")
    return sorted(set(chosen)) or found


def version_numbers(model_dir: Path) -> list[int]:
    """Versions in a folder, oldest first.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return sorted(int(each.name) for each in model_dir.iterdir() if each.is_dir() and each.name.isdecimal())
    except OSError as error:
        raise DataError(f"{model_dir} cannot be read: {error.strerror}") from None


def source_of(repository: Path, model: str, version: int, precision: str) -> Source:
    """A published version, checked to be what was published as far as an engine needs it.

    Raises:
        DataError: Something that is needed is missing, cannot be read, or is not what was published.
    """
    folder = repository / model / str(version)
    manifest = _manifest(folder)
    files = manifest["files"]
    wanted = INT8_FILE if precision == INT8 else FP16_FILE if FP16_FILE in files else FP32_FILE
    if wanted not in files:
        raise DataError(
            f"{model} {version} was published without {wanted}; build it with --precision {FP16}, and choose others "
            "with --model and --newest"
        )
    try:
        digest = sha256(folder / wanted)
    except OSError as error:
        raise DataError(f"{folder / wanted} cannot be read: {error.strerror}") from None
    if digest != files[wanted]:
        raise DataError(f"{folder / wanted} is not the file that was published")
    config = _read(repository / model / "configs" / CONFIG).decode(errors="replace")
    largest = _MAX_BATCH.search(config)
    if largest is None or int(largest[1]) < 1:
        raise DataError(f"{repository / model / 'configs' / CONFIG} has no max_batch_size")
    most = int(largest[1])
    return Source(model, version, folder, manifest, Recipe(wanted, digest, precision, (1, max(1, most // 2), most)))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(_read(folder / MANIFEST))
        complete = manifest["golden"]["photos"] and manifest["golden"]["tolerances"] and manifest["files"]
    except (ValueError, KeyError, TypeError):
        complete = None
    if not complete:
        raise DataError(f"{folder / MANIFEST} is no manifest with golden photos: publish the version again")
    return manifest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
