"""Runs the study: features of every network, the heads on them, fine-tuning, pictures from elsewhere."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from sklearn.pipeline import Pipeline

from training.data.decode import Geometry
from training.data.photos import TRAIN, VAL
from training.data.pixels import cached_stack
from training.errors import RecipeError
from training.heads.features import Backbone, backbone, extract
from training.heads.graph import probability_graph
from training.models.networks import build, natural_px
from training.models.served import normalise
from training.progress import task
from training.runs import checkpoint
from training.studies.affine import Affine
from training.studies.bottleneck import STUDY
from training.studies.bottleneck.data import OUTSIDE, Way, read
from training.studies.bottleneck.heads import (
    MEMBERS,
    Guess,
    Reader,
    Sides,
    bagged,
    flag_limit,
    guesses,
    head,
    over_seeds,
)
from training.studies.bottleneck.report import Finding, Network, card, report
from training.studies.fit import Fitted, Plan, cross_entropy, device_here, fit, in_memory, model_of, seeded
from training.studies.labelled import LabelledPhotos
from training.studies.study import Options, Result, settings_of

#: Augmentation and optimiser of fine-tuning.
CHANGES: Final = Affine(rotation_deg=30, shift=0.2, zoom=0.2, flip=True)
RATE, MOMENTUM = 1e-3, 0.99
_NETWORKS: Final = tuple(str(net.arch) for net in STUDY.models)


@dataclass(frozen=True, slots=True)
class Settings:
    """The study's values."""

    networks: tuple[str, ...] = _NETWORKS[:3]
    fine_tuned: tuple[str, ...] = _NETWORKS
    #: Input size in pixels; 0: what each network was designed for.
    px: int = 0
    batch: int = 128
    seeds: int = 5
    members: int = MEMBERS
    epochs: int = 100
    #: "head" trains a new top, as published by default there; "all" unlocks every layer.
    trainable: str = "head"
    #: Photos at most, stratified by class; 0: all.
    most_photos: int = 0
    #: Folder of pictures from elsewhere; the data's own folder `outside` by default.
    outside: str = ""
    workers: int = 2


_QUICK: Final[dict[str, Any]] = {
    "networks": ("resnet10-w8", "resnet10-w16"),
    "fine_tuned": ("resnet10-w8",),
    "px": 48,
    "members": 4,
    "epochs": 2,
}


def run(options: Options, console: Console) -> Result:
    """Runs the study.

    Raises:
        RecipeError: An unknown setting or network, or one that does not fit.
        DataError: The photos cannot be used.
        WeightsError: The weights do not fit or cannot be had.
    """
    settings = settings_of(Settings(), _QUICK, options)
    if settings.trainable not in {"all", "head"} or not settings.networks or settings.seeds < 2:
        raise RecipeError("trainable is all or head; networks must not be empty; seeds are 2 or more")
    way = Way(options.seed, settings.workers, settings.most_photos, options.made, options.as_published)
    breeds = read(options.data, way, console)
    folder = options.cache / "bottleneck"
    folder.mkdir(parents=True, exist_ok=True)
    networks = [_network(arch, breeds, settings, options, console) for arch in settings.networks]
    best = min(networks, key=lambda network: np.mean([worth.val_loss for worth in network.bags]))
    fitted, reader = _reader(best.source, breeds, settings, options)
    tuned = {arch: _tuned(arch, breeds, settings, options, console) for arch in settings.fine_tuned}
    found = Finding(breeds, tuple(networks), best, tuned, tuple(_guesses(reader, settings, options)), reader.limit)
    (folder / "head.onnx").write_bytes(
        probability_graph(fitted, best.source.width).SerializeToString(deterministic=True)
    )
    checkpoint.write_text(folder / "card.md", card(found))
    return report(found, settings.trainable, options)


def sides_of(source: Backbone, breeds: LabelledPhotos, settings: Settings, cache: Path, console: Console) -> Sides:
    """Features and labels of both splits, from the network's cache."""
    with task(console, f"features of {source.arch}", len(breeds.photos)) as done:
        every = extract(source, breeds.photos, cache, batch=settings.batch, workers=settings.workers, on_done=done)
    train, val = (np.array([photo.split == split for photo in breeds.photos]) for split in (TRAIN, VAL))
    return Sides(every[train], breeds.labels_of(TRAIN), every[val], breeds.labels_of(VAL))


def _network(arch: str, breeds: LabelledPhotos, settings: Settings, options: Options, console: Console) -> Network:
    source = backbone(model_of(arch, options), options.seed, settings.px or None, device_here())
    sides = sides_of(source, breeds, settings, options.cache, console)
    seeds = range(options.seed, options.seed + settings.seeds)
    bags = over_seeds(sides, seeds, settings.members, bag=True)
    singles = over_seeds(sides, seeds, settings.members, bag=False)
    loss, accuracy = np.mean([(worth.val_loss, worth.val_accuracy) for worth in bags], 0)
    console.print(f"{arch}: val log loss {loss:.3f}, accuracy {accuracy:.3f}", highlight=False)
    return Network(source, tuple(bags), tuple(singles))


def _reader(source: Backbone, breeds: LabelledPhotos, settings: Settings, options: Options) -> tuple[Pipeline, Reader]:
    """The head of the first seed on the best network, from its cache."""
    sides = sides_of(source, breeds, settings, options.cache, Console(quiet=True))
    classifier = bagged(len(sides.train_labels), options.seed, settings.members)
    fitted = head(sides.train, classifier).fit(sides.train, sides.train_labels)
    return fitted, Reader(source, fitted, breeds.labels, flag_limit(fitted.predict_proba(sides.val)))


def _tuned(arch: str, breeds: LabelledPhotos, settings: Settings, options: Options, console: Console) -> Fitted:
    px = settings.px or natural_px(arch)
    pictures = {}
    for split, changes in ((TRAIN, CHANGES), (VAL, None)):
        pixels = cached_stack(breeds.of(split), Geometry(px, px), settings.workers, options.cache)
        pictures[split] = in_memory(pixels, breeds.labels_of(split), normalise, changes)
    model = model_of(arch, options, "head" if settings.trainable == "head" else "all")
    net = seeded(options.seed, lambda: build(model, len(breeds.labels)))
    plan = plan_of(settings.epochs, settings.batch, options.seed, arch.replace("/", "-"))
    plan = replace(plan, unfinished=options.unfinished("bottleneck"))
    return fit(net, pictures, plan, options.cache / "bottleneck", console)


def plan_of(epochs: int, batch: int, seed: int, name: str) -> Plan:
    """The study's plan of fine-tuning: SGD with much momentum."""
    return Plan(
        epochs,
        batch,
        lambda weights: torch.optim.SGD(weights, RATE, momentum=MOMENTUM, nesterov=True),
        cross_entropy(),
        seed=seed,
        device=device_here(),
        name=name,
    )


def _guesses(reader: Reader, settings: Settings, options: Options) -> list[Guess]:
    folder = Path(settings.outside) if settings.outside else options.data / OUTSIDE
    return guesses(reader, folder) if folder.is_dir() or settings.outside else []
