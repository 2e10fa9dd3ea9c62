"""Starts or resumes a run: folder, data, environment, training, weights, result."""

import hashlib
import json
import shutil
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from training.data.assemble import assemble
from training.data.manifest import Manifest
from training.data.photos import VAL
from training.environment import training_environment
from training.errors import RunError
from training.recipes.files import dump
from training.recipes.recipe import Recipe
from training.runs import checkpoint
from training.runs.distributed import Process, joined
from training.runs.feed import Feed, validation_set
from training.runs.looks import looks
from training.runs.loop import Trainer
from training.runs.memory import keep_memory
from training.runs.run import BEGAN_WITH, FINAL, Run, began_with, geometry_of
from training.runs.teacher import taught
from training.runs.track import NO_TRACKER, tracker


def new_run(recipe: Recipe, name: str, folder: Path) -> Run:
    """The folder of a run that does not exist yet, with its recipe in it.

    Raises:
        RunError: The folder exists; a run is never trained over.
    """
    run = Run(folder / name)
    try:
        run.path.mkdir(parents=True)
    except FileExistsError:
        raise RunError(f"{run.path} exists; choose another --name, or resume it with --resume {run.path}") from None
    checkpoint.write_text(run.recipe_file, dump(recipe))
    return run


def start(recipe: Recipe, name: str, folder: Path, console: Console) -> dict[str, Any]:
    """Trains a new run to its end and returns its result.

    A start that fails leaves no folder: neither an error before the first checkpoint, nor an interruption before the
    photos are inspected.

    Raises:
        RunError: The folder exists.
    """
    run = new_run(recipe, name, folder)
    try:
        return train(run, console)
    except BaseException as error:
        worth_keeping = run.checkpoint_file if isinstance(error, Exception) else run.data_file
        if not worth_keeping.exists():
            shutil.rmtree(run.path, ignore_errors=True)
        raise


def unused_name(recipe_name: str, folder: Path) -> str:
    """A name for a run of a recipe: its own, with a number if that is taken."""
    stem = Path(recipe_name).stem
    number, name = 1, stem
    while (folder / name).exists():
        number += 1
        name = f"{stem}-{number}"
    return name


def train(run: Run, console: Console) -> dict[str, Any]:
    """Trains a run to its end and returns its result; resumes at its last checkpoint if there is one.

    A finished run is left as it is. Under `torchrun` every process calls this; the leading one writes files and returns
    the result, the others return an empty one.
    """
    with joined() as process:
        process.wait()  # the leading one wrote the recipe before
        recipe = run.recipe()
        torch.set_num_threads(recipe.train.threads)
        if process.device.type == "cpu":
            keep_memory()
            torch.use_deterministic_algorithms(mode=True)
            # filling memory that the next operation overwrites takes a fifth of a step
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        console = console if process.leads else Console(quiet=True)
        result = _trained(run, recipe, process, console)
        if recipe.train.final == "all":
            _trained(_final_run(run, recipe, process), recipe, process, console)
    return result


def _trained(run: Run, recipe: Recipe, process: Process, console: Console) -> dict[str, Any]:
    """Trains a run that may be finished already."""
    if run.finished:
        return run.result()
    manifest = _manifest(run, recipe, process, console)
    feed = Feed(recipe, manifest, process, console)
    chooses = process.leads and bool(manifest.of(VAL))
    validation = validation_set(recipe, manifest, console) if chooses else None
    with tracker(run, recipe) if process.leads else nullcontext(NO_TRACKER) as tracks:
        trainer = Trainer(run, recipe, len(manifest.labels), feed, validation, process, console, tracks)
        score = trainer.fit()
    result: dict[str, Any] = {}
    if process.leads:
        _write_model(run, recipe, manifest, trainer)
        result = {
            "run": str(run.path),
            "task": recipe.task,
            "steps": trainer.progress.total,
            "best_step": trainer.progress.best_total,
            "val": score.values if score else {},
            "seconds": round(trainer.progress.seconds, 1),
            "cpu_seconds": round(trainer.progress.cpu_seconds, 1),
            "data_sha256": manifest.sha256,
            "model_sha256": hashlib.sha256(run.model_file.read_bytes()).hexdigest(),
        }
        checkpoint.write_text(run.result_file, json.dumps(result, indent=2) + "\n")
    process.wait()
    return result


def _final_run(run: Run, recipe: Recipe, process: Process) -> Run:
    """The run on the photos of all splits, in the folder of the run that chose; made if it is not there yet."""
    final = Run(run.path / FINAL)
    if process.leads and not final.data_file.is_file():
        final.path.mkdir(exist_ok=True)
        own = recipe.model_copy(update={"train": recipe.train.model_copy(update={"final": "selection"})})
        checkpoint.write_text(final.recipe_file, dump(own))
        checkpoint.write_text(final.data_file, json.dumps(run.data().whole().as_json(), indent=1) + "\n")
    process.wait()
    return final


def _manifest(run: Run, recipe: Recipe, process: Process, console: Console) -> Manifest:
    """The run's manifest, made by the leading process if it is not there yet."""
    if process.leads and not run.data_file.is_file():
        environment = {**training_environment(), BEGAN_WITH: began_with(recipe.model)}
        checkpoint.write_text(run.environment_file, json.dumps(environment, indent=2) + "\n")
        made = taught(assemble(recipe, console, looks(recipe, console)), recipe, console)
        for line in made.remarks():
            console.print(line, style="yellow", highlight=False)
        checkpoint.write_text(run.data_file, json.dumps(made.as_json(), indent=1) + "\n")
    process.wait()
    return run.data()


def _write_model(run: Run, recipe: Recipe, manifest: Manifest, trainer: Trainer) -> None:
    state = {name: value.detach().cpu().contiguous() for name, value in trainer.state().items()}
    checkpoint.write(
        run.model_file,
        {
            "kind": recipe.task,
            "arch": recipe.model.arch,
            "labels": list(manifest.labels),
            "geometry": asdict(geometry_of(recipe)),
            "state_dict": state,
            BEGAN_WITH: began_with(recipe.model),
        },
    )
