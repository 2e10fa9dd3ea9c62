"""Distillation: a teacher, a published version or a run, rates the photos to train on, also those that nobody rated.

Its answers become votes of the manifest, so that a run that goes on, and whoever reads data.json, needs no teacher.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from rich.console import Console

from training.data.manifest import Manifest
from training.data.photos import LEVELS, TEST, TRAIN, VAL, Photo
from training.data.ratings import mean
from training.errors import RunError
from training.models.served import deployable, normalised
from training.progress import task
from training.recipes.recipe import Recipe
from training.runs.feed import pixels_of
from training.runs.objective import level_distribution
from training.runs.run import QUALITY, Run, load_model
from training.serving.engines import ENGINES, outputs_of
from training.serving.files import MANIFEST, sha256

_AT_ONCE: Final = 64
_NAMES: Final = [str(level) for level in LEVELS]


@dataclass(frozen=True, slots=True)
class Teacher:
    """A quality model that is asked for labels."""

    #: Without the folders of the machine: a model and its version, or a run.
    name: str
    #: Of its graph, or of its weights.
    sha256: str
    #: Side of its input.
    px: int
    #: uint8 [N, px, px, 3] to the shares of levels 1..5 [N, 5].
    answers: Callable[[np.ndarray], np.ndarray]
    #: SHA-256 of the photos that it learnt from; None if only its split is known.
    learnt: frozenset[str] | None = None
    #: The rules of its split, as plain values.
    split: Any = None


def taught(manifest: Manifest, recipe: Recipe, console: Console) -> Manifest:
    """The manifest with the teacher's answers in the labels of the photos to train on; itself without a teacher.

    Raises:
        RunError: The teacher's folder holds no quality model.
    """
    if recipe.teacher is None:
        return manifest
    teacher, photos = opened(recipe.teacher.path), manifest.of(TRAIN)
    # with `data.cache`, a pupil that stores photos in the teacher's size finds them there
    pixels = pixels_of(photos, teacher.px, recipe.data, console, f"photos for {teacher.name}")
    with task(console, f"labels of {teacher.name}", len(photos)) as done:
        parts = []
        for images in torch.split(pixels, _AT_ONCE):
            parts.append(teacher.answers(images.permute(0, 2, 3, 1).contiguous().numpy()))
            done(len(images))
    share = recipe.teacher.share
    labelled = iter([_labelled(*pair, share) for pair in zip(photos, np.concatenate(parts), strict=True)])
    return replace(
        manifest,
        photos=tuple(next(labelled) if photo.split == TRAIN else photo for photo in manifest.photos),
        teacher={
            "name": teacher.name,
            "sha256": teacher.sha256,
            "share": share,
            "unrated": sum(photo.rating is None for photo in photos),
        },
        doubts=(*manifest.doubts, *_doubts(teacher, manifest, recipe)),
    )


def _labelled(photo: Photo, answer: np.ndarray, share: float) -> Photo:
    """The photo with a share of the teacher's answer in its votes, or with that alone if nobody rated it."""
    if photo.rating is not None:
        answer = share * answer + (1 - share) * np.array(level_distribution(photo.rating, photo.votes))
    votes = tuple(round(float(value), 6) for value in answer / answer.sum())
    return replace(photo, votes=votes, rating=mean(votes) if photo.rating is None else photo.rating)


def _doubts(teacher: Teacher, manifest: Manifest, recipe: Recipe) -> Iterator[str]:
    """Whether the teacher knows the photos that its pupil is judged by, and passes that on.

    Yields:
        A sentence.
    """
    judged = {photo.sha256 for split in (VAL, TEST) for photo in manifest.of(split)}
    if teacher.learnt is not None:
        known = len(judged & teacher.learnt)
        if known:
            yield (
                f"the teacher {teacher.name} learnt from {known} of the {len(judged)} photos that this run is judged "
                "by: its figures will flatter; divide the photos as the teacher's were"
            )
    elif teacher.split != recipe.data.split.model_dump(mode="json"):
        yield (
            f"the teacher {teacher.name} was made with other rules of data.split: if it learnt from the same photos, "
            "it knows some that this run is judged by, and the figures will flatter"
        )


def opened(path: Path) -> Teacher:
    """The teacher in the folder of a published version or of a run.

    Raises:
        RunError: It is neither, is not whole, or is no quality model.
    """
    if (path / MANIFEST).is_file():
        return _version(path)
    if not Run(path).recipe_file.is_file():
        raise RunError(
            f"teacher.path {path} is neither a published version (it has no {MANIFEST}) nor a run: name a folder such "
            "as triton_models/photo_quality/2 or runs/NAME"
        )
    run = Run.open(path)
    net, spec = load_model(run)
    _check(path, spec.labels)
    net = deployable(net)

    @torch.no_grad()
    def answers(images: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        made: np.ndarray = torch.softmax(net(normalised(pixels, torch.device("cpu"))), 1).numpy()
        return made

    learnt = frozenset(photo.sha256 for photo in run.data().of(TRAIN))
    return Teacher(run.name, sha256(run.model_file), spec.input_px, answers, learnt=learnt)


def _version(path: Path) -> Teacher:
    """A published version, asked as it is served on CPUs.

    Raises:
        RunError: As `opened`.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        _check(path, manifest["labels"])
        cpu = manifest["cpu"]
        file, digest = path / cpu["file"], manifest["files"][cpu["file"]]
        found = sha256(file)
        if found != digest:
            raise RunError(f"{file} is not the file that was published: SHA-256 {found}, not {digest}")
        model = onnx.load(file)
        engine = ENGINES[cpu["engine"]](model)
        name = f"{manifest['model']}/{manifest['version']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is not a whole version: {type(error).__name__}: {error}") from None
    px = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    split = manifest.get("training", {}).get("recipe", {}).get("data", {}).get("split")
    return Teacher(name, digest, px, lambda images: outputs_of(engine, images)[1], split=split)


def _check(path: Path, labels: Sequence[str]) -> None:
    if list(labels) != _NAMES:
        raise RunError(f"{path} is no {QUALITY} model: its labels are {', '.join(labels)}, not the levels 1 to 5")
