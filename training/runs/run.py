"""A run, the folder `runs/<name>/`: its files, its model, and the photos of its splits."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from training.data.decode import Geometry
from training.data.manifest import Manifest, load_manifest
from training.data.photos import LEVELS, Photo
from training.data.pixels import photo_pixels
from training.errors import RunError
from training.models.networks import empty
from training.models.packages import package_of
from training.models.spec import ModelSpec
from training.recipes.files import load, parse
from training.recipes.recipe import Model, Recipe

BRAND, QUALITY = "brand", "quality"
#: Folder, in that of a run, of its training on all photos.
FINAL: Final = "final"
#: Of `model.pt` and `environment.json`, what `began_with` says.
BEGAN_WITH: Final = "began_with"
_GREY_SPREAD: Final = 4.0


class Item(NamedTuple):
    """One photo of a split, as the service would see it."""

    id: str
    #: uint8 [H, W, 3] at the serving geometry.
    pixels: Tensor
    #: Index into the labels for brands; a rating 1..5, fractions allowed, for quality.
    target: float
    #: Properties that a report slices by: name to value.
    slices: dict[str, str]


class Run:
    """The folder of a run and the files in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Name of the folder.
        self.name = path.name
        #: The recipe with every value.
        self.recipe_file = path / "recipe.yaml"
        #: The data manifest: every photo.
        self.data_file = path / "data.json"
        #: Python, packages, git commit, CPU and GPUs.
        self.environment_file = path / "environment.json"
        #: One line for each log step and evaluation.
        self.metrics_file = path / "metrics.jsonl"
        #: All that resuming needs.
        self.checkpoint_file = path / "checkpoint.pt"
        #: Kind, architecture, labels, geometry and weights.
        self.model_file = path / "model.pt"
        #: The line that training printed.
        self.result_file = path / "result.json"

    @property
    def finished(self) -> bool:
        """Whether its training, but for a final one, came to an end."""
        return self.model_file.is_file() and self.result_file.is_file()

    @property
    def final(self) -> "Run | None":
        """The training on all photos, a run in this run's folder, once it began."""
        inner = Run(self.path / FINAL)
        return inner if inner.recipe_file.is_file() else None

    @classmethod
    def open(cls, path: Path) -> Self:
        """The run in a folder.

        Raises:
            RunError: It holds no recipe.yaml.
        """
        run = cls(path)
        if not run.recipe_file.is_file():
            raise RunError(f"{path} is not a run: it has no {run.recipe_file.name}")
        return run

    def recipe(self) -> Recipe:
        """The resolved recipe. Raises RecipeError if it no longer fits this version's recipes."""
        return parse(load(self.recipe_file.read_text()))

    def data(self) -> Manifest:
        """The manifest. Raises DataError if it is missing or was changed."""
        return load_manifest(self.data_file)

    def environment(self) -> dict[str, Any]:
        """What the run is trained with; empty before training begins."""
        return _json(self.environment_file)

    def metrics(self) -> list[dict[str, Any]]:
        """Every logged line, oldest first."""
        if not self.metrics_file.is_file():
            return []
        return [json.loads(line) for line in self.metrics_file.read_text().splitlines() if line.strip()]

    def result(self) -> dict[str, Any]:
        """The result of training; empty before its end."""
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
    runs = [run for run in map(Run, folder.iterdir()) if run.recipe_file.is_file()]
    return sorted(runs, key=lambda run: run.recipe_file.stat().st_mtime)


def spec_of(kind: str, labels: tuple[str, ...], geometry: Geometry) -> ModelSpec:
    """The serving contract of a run's model."""
    if kind == QUALITY:
        outputs = (("quality_score", 1), ("quality_levels", len(LEVELS)))
        return ModelSpec("photo_quality", outputs, "quality_levels", labels, geometry.input_size)
    return ModelSpec("brand_logo", (("brand_probs", len(labels)),), "brand_probs", labels, geometry.input_size)


def began_with(model: Model) -> str:
    """The network whose weights in a package training begins with, be it by another run's `model.pt`; or empty."""
    if model.weights is None:
        return package_of(model.arch).arch if model.pretrained == "package" else ""
    try:
        loaded = torch.load(model.weights, map_location="cpu", weights_only=True, mmap=True)
        return str(loaded.get(BEGAN_WITH, "")) if isinstance(loaded, dict) else ""
    except Exception:  # noqa: BLE001 - `load_weights` says what is wrong with the file
        return ""


def load_model(run: Run) -> tuple[nn.Module, ModelSpec]:
    """The run's network in evaluation mode, and its serving contract.

    The network takes float32 [N, 3, S, S] from `models.normalise` and gives logits [N, labels].

    Raises:
        RunError: Training did not finish, or model.pt is broken.
    """
    if not run.model_file.is_file():
        raise RunError(f"{run.path} has no {run.model_file.name}: its training is not finished")
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
        mean, spread = float(pixels.mean()), float((pixels.max(2).astype(int) - pixels.min(2)).mean())
        slices = {
            "source": photo.source,
            **photo.metadata,
            "brightness": "dark" if mean < 80 else "bright" if mean > 170 else "middle",
            "colour": "grey" if spread < _GREY_SPREAD else "colour",
        }
        target = float(photo.rating) if photo.rating is not None else self.labels.index(photo.label or "")
        return Item(photo.id, torch.from_numpy(pixels), target, slices)

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(len(self)))


def load_split(run: Run, split: str) -> Split:
    """The photos of "train", "val", "test" or "foreign" (no known brand, from elsewhere); empty if there are none."""
    manifest = run.data()
    return Split(manifest.of(split), manifest.labels, geometry_of(run.recipe()))
