"""Publishes a version into the Triton model repository: staged beside its place, checked, renamed.

A version directory is immutable: nothing here ever writes into one that exists. The configs are derived from the
manifests of the versions that are there, so they can be regenerated at any time.
"""

import json
import os
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import onnx

from training.errors import PublishError
from training.models.spec import ModelSpec
from training.publish import golden
from training.publish.bundle import Bundle
from training.publish.manifest import Evidence, manifest_of, read_manifest
from training.publish.model_config import VARIANTS, config_text
from training.serving.files import FP32_FILE, MANIFEST, sync

_HIDDEN = "."
Manifests = Mapping[int, Mapping[str, Any]]


def versions(model_dir: Path) -> list[int]:
    """Published versions, oldest first; directories being staged are hidden and do not count."""
    if not model_dir.is_dir():
        return []
    return sorted(int(entry.name) for entry in model_dir.iterdir() if entry.is_dir() and entry.name.isdecimal())


def _manifests(model_dir: Path) -> Manifests:
    """Of every published version."""
    return {version: read_manifest(model_dir, version) for version in versions(model_dir)}


def tensor_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Type and dimensions, without the batch, of every input and output: what versions of one model must share."""
    return {
        value.name: (value.type.tensor_type.elem_type, *(d.dim_value for d in value.type.tensor_type.shape.dim[1:]))
        for value in (*model.graph.input, *model.graph.output)
    }


def _check_same_contract(spec: ModelSpec, model_dir: Path, manifests: Manifests, model: onnx.ModelProto) -> None:
    expected = {"images": (spec.input_px, spec.input_px, 3), **{name: (width,) for name, width in spec.outputs}}
    if {name: shape[1:] for name, shape in tensor_shapes(model).items()} != expected:
        raise PublishError(f"the graph's tensors {tensor_shapes(model)} are not those of {spec.name}: {expected}")
    for version, manifest in manifests.items():
        if manifest["labels"] != list(spec.labels):
            raise PublishError(
                f"labels differ from {spec.name} version {version}: tags would change their meaning. "
                "Publish under a new model name."
            )
        if tensor_shapes(onnx.load(model_dir / str(version) / FP32_FILE)) != tensor_shapes(model):
            raise PublishError(
                f"inputs or outputs differ from {spec.name} version {version}. Publish under a new model name."
            )


def _replace(path: Path, text: str) -> None:
    """Writes a file atomically: a reader sees the old text or the new one."""
    staged = path.with_name(f"{_HIDDEN}{path.name}.new")
    staged.write_text(text)
    sync(staged)
    staged.rename(path)


def _write_configs(spec: ModelSpec, model_dir: Path, manifests: Manifests) -> None:
    """Writes labels.txt and every variant of the config, with the decisions and engines of the versions' manifests.

    Older manifests have no "cpu"; the config's default engine and file serve those versions.
    """
    decisions = {version: manifest["calibration"] for version, manifest in manifests.items()}
    engines = {version: manifest["cpu"] for version, manifest in manifests.items() if "cpu" in manifest}
    (model_dir / "configs").mkdir(parents=True, exist_ok=True)
    _replace(model_dir / "labels.txt", "\n".join(spec.labels) + "\n")
    for variant in VARIANTS:
        _replace(model_dir / "configs" / f"{variant}.pbtxt", config_text(spec, variant, decisions, engines))
    sync(model_dir)


def write_graphs(bundle: Bundle, folder: Path) -> list[Path]:
    """Writes every graph of a version into a folder and returns the files."""
    for name, graph in bundle.graphs.items():
        (folder / name).write_bytes(graph.SerializeToString(deterministic=True))
    return [folder / name for name in bundle.graphs]


def _stage(spec: ModelSpec, staged: Path, version: int, bundle: Bundle, evidence: Evidence) -> None:
    staged.mkdir()
    write_graphs(bundle, staged)
    for name, text in evidence.texts.items():
        (staged / name).write_text(text)
    (staged / "model.py").write_bytes(files("training.serving").joinpath("model.py").read_bytes())
    golden.write_photos(spec.input_px, staged)
    manifest = manifest_of(spec, version, staged, bundle, evidence)
    (staged / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    for entry in (*staged.rglob("*"), staged):
        sync(entry)


def publish(spec: ModelSpec, repository: Path, bundle: Bundle, evidence: Evidence) -> Path:
    """Publishes the next version of a model and returns its directory.

    The order is: stage the version in a hidden sibling, write the configs that know its decision, rename. A server
    that polls therefore never sees a version without its decision; a decision without its version harms nobody.

    Raises:
        PublishError: Labels or tensors differ from the versions there, or another publisher took the number. The
            repository is then as it was before.
    """
    model_dir = repository / spec.name
    manifests = _manifests(model_dir)
    _check_same_contract(spec, model_dir, manifests, bundle.model)
    version = max(manifests, default=0) + 1
    model_dir.mkdir(parents=True, exist_ok=True)
    staged, final = model_dir / f"{_HIDDEN}{version}.{os.getpid()}", model_dir / str(version)
    try:
        _stage(spec, staged, version, bundle, evidence)
        added = {"calibration": evidence.calibration, "cpu": bundle.cpu}
        _write_configs(spec, model_dir, {**manifests, version: added})
        staged.rename(final)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        _restore(spec, model_dir)
        raise PublishError(f"{spec.name} version {version} could not be published: {error}") from error
    sync(model_dir)
    return final


def _restore(spec: ModelSpec, model_dir: Path) -> None:
    """Derives the configs again from the versions that are there, or removes a model that has none."""
    if manifests := _manifests(model_dir):
        _write_configs(spec, model_dir, manifests)
    else:
        shutil.rmtree(model_dir, ignore_errors=True)
