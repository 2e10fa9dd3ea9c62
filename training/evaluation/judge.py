"""What a run's model says about photos, decided as it would be in service."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from rich.console import Console

from training.data.decode import Geometry, decode, square
from training.data.photos import VAL
from training.data.read import read_bytes
from training.data.walk import LeftOut, text_of, walk
from training.errors import DataError, Unreadable
from training.evaluation import quality
from training.evaluation.decide import decision_of
from training.evaluation.predict import logits_of, predict_split
from training.evaluation.run import FOLDER, METRICS
from training.evaluation.thresholds import Target
from training.models.served import deployable
from training.progress import task
from training.runs.run import BRAND, Run, load_model, load_split
from training.serving.decision import decided as tags_of
from training.statistics import softmax

_TOP: Final = 3


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the model says about one photo, or the reason why it says nothing."""

    photo: str
    #: The brand or no_logo, good or poor.
    decision: str = ""
    #: Label to probability, after the temperature, best first; levels 1..5 for quality.
    probabilities: Mapping[str, float] | None = None
    #: Expected level as 0..1; None for brands.
    score: float | None = None
    error: str | None = None

    def as_json(self) -> dict[str, object]:
        """Plain values without the empty ones."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value not in (None, "")}


def photos_in(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """The files that are named, the photos in the folders that are named, and how many files there are no photos.

    Raises:
        DataError: A folder holds no photo.
    """
    photos, others = [], 0
    for path in paths:
        found = list(walk(path)) if path.is_dir() else [path]
        own = [one for one in found if isinstance(one, Path)]
        others += sum(one.files for one in found if isinstance(one, LeftOut))
        if not own:
            raise DataError(f"{path} holds no photo")
        photos += own
    return photos, others


def decision(run: Run, console: Console) -> tuple[Mapping[str, float], str]:
    """Temperature and threshold, and where they come from: the run's evaluation, or val, measured now.

    Raises:
        RunError: The run is not trained.
        DataError: It has no photos to choose on, or its evaluation is broken.
    """
    torch.set_num_threads(run.recipe().train.threads)  # as in training and evaluation
    known = run.path / FOLDER / METRICS
    if known.is_file():
        try:
            return json.loads(known.read_text())["decision"], str(known)
        except (ValueError, KeyError) as error:
            raise DataError(f"{known} is broken ({error}): photo-trainer evaluate {run.path}") from None
    net = deployable(load_model(run)[0])
    with task(console, "photos to decide on", len(load_split(run, VAL))) as done:
        val = predict_split(run, VAL, net, done)
    return decision_of(run.recipe().task, val.answers, Target()), f"the val photos of {run.path}"


def judge(run: Run, photos: Sequence[Path], decided: Mapping[str, float]) -> Iterator[Judgement]:
    """Judges photos as the service would, with the weights that publishing takes.

    Yields:
        One judgement a photo, in order.
    """
    trained, spec = load_model(run.final or run)
    net, is_brand = deployable(trained), run.recipe().task == BRAND
    geometry = Geometry(spec.input_px, spec.input_px)
    for path in photos:
        name = text_of(path)
        try:
            pixels = square(decode(read_bytes(str(path)), geometry.resize_short_side), geometry)
        except Unreadable as error:
            yield Judgement(name, error=str(error))
            continue
        shares = softmax(logits_of(net, pixels[None]), decided["temperature"])
        score = None if is_brand else float(quality.score_of(shares)[0])
        if score is None:
            said = spec.labels[tags_of(shares, decided["threshold"])[0]]
        else:
            said = "good" if score >= decided["good_threshold"] else "poor"
        order = np.argsort(-shares[0], kind="stable")[:_TOP] if is_brand else range(len(spec.labels))
        named = {spec.labels[index]: round(float(shares[0, index]), 4) for index in order}
        yield Judgement(name, said, named, None if score is None else round(score, 4))
