"""Evaluates a run and writes report.html, card.md, metrics.json and drift.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from torch import nn

from training.data.decode import Geometry
from training.data.photos import TRAIN
from training.data.pixels import undamaged
from training.data.related import related
from training.errors import DataError
from training.evaluation.assess import Splits, assess_brand, assess_quality
from training.evaluation.card import markdown, sections
from training.evaluation.damage import PairedDamage, paired_damage
from training.evaluation.outcome import Evaluation
from training.evaluation.predict import SplitPredictions, logits_of, predict_split, spread
from training.evaluation.quality import score_of
from training.evaluation.report import html
from training.evaluation.thresholds import Target
from training.models.served import deployable
from training.models.spec import ModelSpec
from training.progress import task
from training.runs.run import BRAND, Run, load_model, load_split
from training.statistics import Floats, softmax

#: Of a run's folder, where its evaluation is written.
FOLDER: Final = "evaluation"
REPORT, CARD, METRICS, DRIFT = "report.html", "card.md", "metrics.json", "drift.json"
_SPLITS: Final = ("val", "test", "foreign")
#: At most so many photos are damaged.
_PAIRED_PHOTOS: Final = 60


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A run, its network, the predictions for its splits, and their evaluation."""

    run: Run
    spec: ModelSpec
    #: Takes normalised floats, gives logits; norms folded and weights rounded as they are served.
    net: nn.Module
    splits: Splits
    evaluation: Evaluation


def evaluate(run: Run, target: Target, console: Console, name: str | None = None) -> Evaluated:
    """Evaluates a run, as a model of another name than its kind's where one is given.

    Raises:
        RunError: The run has no finished model.
        DataError: It has no photos to choose on, or none to report on.
    """
    torch.set_num_threads(run.recipe().train.threads)  # more of them slow a busy machine down
    trained, spec = load_model(run)
    net = deployable(trained)  # what is measured is what will be served
    counts = {split: len(load_split(run, split)) for split in _SPLITS}
    for split in ("val", "test"):
        if not counts[split]:
            raise DataError(f"{run.path} has no {split} photos to evaluate on")
    with task(console, "photos", sum(counts.values())) as done:
        val, test, foreign = (predict_split(run, split, net, done) for split in _SPLITS)
    splits = Splits(val, test, foreign, related(test.photos, run.data().of(TRAIN)))
    if run.recipe().task == BRAND:
        evaluation = assess_brand(net, spec.labels, splits, target)
    else:
        evaluation = assess_quality(net, spec.labels, splits)
        evaluation = replace(evaluation, paired=_paired(net, splits.test, evaluation.decision))
    return Evaluated(run, spec if name is None else replace(spec, name=name), net, splits, evaluation)


def _paired(net: nn.Module, test: SplitPredictions, decision: Mapping[str, float]) -> PairedDamage:
    """Pairs of test photos as they are, and damaged at full size."""
    distinct = list({photo.uri: photo for photo in test.photos if photo.box is None}.values())
    photos = [undamaged(distinct[index]) for index in spread(np.arange(len(distinct)), _PAIRED_PHOTOS)]
    side = test.images.shape[1]

    def score(images: np.ndarray) -> Floats:
        return score_of(softmax(logits_of(net, images), decision["temperature"]))

    return paired_damage(photos, Geometry(side, side), score, decision["good_threshold"])


def write(found: Evaluated, folder: Path) -> list[Path]:
    """Writes the report, the card and the figures into a folder; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    run, evaluation = found.run, found.evaluation
    recipe = run.recipe().model_dump(mode="json")
    parts = sections(evaluation, recipe, _data_summary(run), run.environment())
    title = f"{found.spec.name}: {recipe['model']['arch']}, run {run.name}"
    counts = ", ".join(f"{count:,} {name}" for name, count in evaluation.photos.items())
    subtitle = f"{counts} photos; data {run.data().sha256[:12]}; chosen on val, frozen, measured once on test"
    texts = {
        REPORT: html(title, subtitle, evaluation, parts, run.metrics()),
        CARD: markdown(f"Model card of {found.spec.name}, run {run.name}", parts),
        METRICS: json.dumps({"run": run.name, "model": found.spec.name, **evaluation.as_json()}, indent=1) + "\n",
        DRIFT: json.dumps(evaluation.drift) + "\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def _data_summary(run: Run) -> Mapping[str, Any]:
    """data.json without its samples."""
    values: dict[str, Any] = json.loads(run.data_file.read_text())
    values.pop("samples", None)
    return values
