"""A run: one folder that holds all that was decided, measured and learnt, and what reads it back.

`runs/<name>/` holds recipe.yaml (every value), data.json (every photo), environment.json, metrics.jsonl,
checkpoint.pt (to resume), model.pt (to serve) and result.json.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from training.data.decode import Geometry, brightness_slice
from training.data.manifest import Manifest, load_manifest
from training.data.photos import LEVELS, Photo
from training.data.pixels import photo_pixels
from training.errors import RunError
from training.models.networks import empty
from training.models.spec import ModelSpec
from training.recipes.files import load, parse
from training.recipes.recipe import Recipe

BRAND, QUALITY = "brand", "quality"
_GREY_SPREAD: Final = 4.0


class Item(NamedTuple):
    """One photo of a split, as the service would see it."""

    id: str
    #: uint8 [H, W, 3] at the serving geometry.
    pixels: Tensor
    #: Index into the labels for brands; a rating 1..5, fractions allowed, for quality.
    target: float
    #: What a report may slice by: name to value.
    slices: dict[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of a run and the places in it."""

    path: Path

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """The run in a folder.

        Raises:
            RunError: It holds no recipe.yaml.
        """
        run = cls(Path(path))
        if not run.recipe_file.is_file():
            raise RunError(f"{path} is not a run: it has no {run.recipe_file.name}")
        return run

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def recipe_file(self) -> Path:
        """recipe.yaml, with every value."""
        return self.path / "recipe.yaml"

    @property
    def data_file(self) -> Path:
        """data.json, the manifest."""
        return self.path / "data.json"

    @property
    def environment_file(self) -> Path:
        """environment.json: python, packages, git commit, CPU."""
        return self.path / "environment.json"

    @property
    def metrics_file(self) -> Path:
        """metrics.jsonl: one line of each log step and evaluation."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint_file(self) -> Path:
        """checkpoint.pt: all that resuming needs."""
        return self.path / "checkpoint.pt"

    @property
    def model_file(self) -> Path:
        """model.pt: kind, arch, labels, geometry and the run's weights."""
        return self.path / "model.pt"

    @property
    def result_file(self) -> Path:
        """result.json: the line that training printed."""
        return self.path / "result.json"

    def recipe(self) -> Recipe:
        """The resolved recipe. Raises RecipeError if it no longer fits this version's recipes."""
        return parse(load(self.recipe_file.read_text()))

    def data(self) -> Manifest:
        """The manifest. Raises DataError if it is missing or was changed."""
        return load_manifest(self.data_file)

    def environment(self) -> dict[str, Any]:
        """What the run was made with; empty before training began."""
        return _json(self.environment_file)

    def metrics(self) -> list[dict[str, Any]]:
        """Every logged line, oldest first."""
        if not self.metrics_file.is_file():
            return []
        return [json.loads(line) for line in self.metrics_file.read_text().splitlines() if line.strip()]

    def result(self) -> dict[str, Any]:
        """What training printed at its end; empty before."""
        return _json(self.result_file)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def find(folder: Path) -> list[Run]:
    """The runs in a folder, oldest first."""
    if not folder.is_dir():
        return []
    runs = [Run(entry) for entry in folder.iterdir() if (entry / "recipe.yaml").is_file()]
    return sorted(runs, key=lambda run: run.recipe_file.stat().st_mtime)


def spec_of(kind: str, labels: tuple[str, ...], geometry: Geometry) -> ModelSpec:
    """The serving contract of a run's model."""
    if kind == QUALITY:
        outputs = (("quality_score", 1), ("quality_levels", len(LEVELS)))
        return ModelSpec("photo_quality", outputs, "quality_levels", labels, geometry.input_size)
    return ModelSpec("brand_logo", (("brand_probs", len(labels)),), "brand_probs", labels, geometry.input_size)


def load_model(run: Run) -> tuple[nn.Module, ModelSpec]:
    """The run's network in evaluation mode, and its serving contract.

    The network takes float32 [N, 3, S, S] from `models.normalise` and gives logits [N, labels].

    Raises:
        RunError: Training did not finish, or model.pt is broken.
    """
    if not run.model_file.is_file():
        raise RunError(f"{run.path} has no {run.model_file.name}: train it to its end first")
    try:
        saved = torch.load(run.model_file, map_location="cpu", weights_only=True)
        net = empty(saved["arch"], len(saved["labels"]))
        net.load_state_dict(saved["state_dict"])
        spec = spec_of(saved["kind"], tuple(saved["labels"]), Geometry(**saved["geometry"]))
    except (OSError, KeyError, TypeError, RuntimeError) as error:
        raise RunError(f"{run.model_file}: {type(error).__name__}: {error}") from None
    return net.eval(), spec


def geometry_of(recipe: Recipe) -> Geometry:
    """The serving geometry of a recipe's model."""
    return Geometry(recipe.model.input_px, recipe.model.input_px)


class Split(Dataset[Item]):
    """The photos of a split; indexing decodes one, so that a split need not fit into memory."""

    def __init__(self, photos: list[Photo], labels: tuple[str, ...], geometry: Geometry) -> None:
        self.photos = photos
        self.labels = labels
        self.geometry = geometry

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Item:
        photo = self.photos[index]
        pixels = photo_pixels(photo, self.geometry)
        slices = {"source": photo.source, **photo.metadata, "brightness": brightness_slice(pixels)}
        spread = float((pixels.max(2).astype(int) - pixels.min(2)).mean())
        slices["colour"] = "grey" if spread < _GREY_SPREAD else "colour"
        target = float(photo.rating) if photo.rating is not None else self.labels.index(photo.label or "")
        return Item(photo.id, torch.from_numpy(pixels), target, slices)

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(len(self)))


def load_split(run: Run, split: str) -> Split:
    """The photos of "train", "val", "test" or "foreign" (no known brand, from elsewhere); empty if there are none."""
    manifest = run.data()
    return Split(manifest.of(split), manifest.labels, geometry_of(run.recipe()))
