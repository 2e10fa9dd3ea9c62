"""The trained network as a run, which `photo-trainer predict` and the other commands of runs take."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from training.data.decode import Geometry
from training.data.manifest import Manifest
from training.data.photos import NO_LOGO
from training.environment import training_environment
from training.models.small_cnn import SmallCNN, TwoLabels
from training.recipes.files import dump
from training.recipes.recipe import Data, Model, Recipe
from training.recipes.sources import FoldersSource
from training.runs import checkpoint
from training.runs.run import BRAND, Run
from training.studies.fit import Fitted
from training.studies.openimages.data import Dishes

#: Folder of the run beside the page.
RUN: Final = "openimages-run"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run tells of its training."""

    seed: int
    fitted: Fitted
    metrics: Mapping[str, float]


def write_run(folder: Path, net: SmallCNN, px: int, dishes: Dishes, trained: Trained) -> None:
    """Writes a run: recipe, manifest of the crops, environment, model and result.

    Its labels are the two classes and no_logo, as a brand model has; no_logo is never the answer.
    """
    arch, labels = f"small_cnn{px}", (*dishes.classes, NO_LOGO)
    whole, run = TwoLabels(px, len(labels)), Run(folder)
    whole.net.load_state_dict(net.state_dict())
    source = FoldersSource(kind="folders", path=Path(dishes.crops[0].uri).parents[1])
    recipe = Recipe(
        task="brand",
        summary="study openimages: crops of two classes, by a small network",
        seed=trained.seed,
        data=Data(sources=(source,)),
        model=Model(arch=arch, input_px=px),
    )
    manifest = Manifest(BRAND, labels, dishes.crops)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.write_text(run.recipe_file, dump(recipe))
    checkpoint.write_text(run.data_file, json.dumps(manifest.as_json(), indent=1) + "\n")
    checkpoint.write_text(run.environment_file, json.dumps(training_environment(), indent=2) + "\n")
    state = {name: value.detach().cpu().contiguous() for name, value in whole.state_dict().items()}
    geometry = asdict(Geometry(px, px))
    content = {"kind": BRAND, "arch": arch, "labels": list(labels), "geometry": geometry, "state_dict": state}
    checkpoint.write(run.model_file, content)
    epochs = trained.fitted.epochs
    result = {
        "run": str(folder),
        "task": BRAND,
        "steps": len(epochs),
        "best_step": trained.fitted.best.number,
        "val": {"loss": trained.fitted.best.val_loss},
        "report": dict(trained.metrics),
        "seconds": round(sum(epoch.seconds for epoch in epochs), 1),
        "data_sha256": manifest.sha256,
        "model_sha256": hashlib.sha256(run.model_file.read_bytes()).hexdigest(),
    }
    checkpoint.write_text(run.result_file, json.dumps(result, indent=2) + "\n")
