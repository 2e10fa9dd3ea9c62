"""The networks that the study compares, and the remedies that it proposes, each trained and scored alike."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from training.data.photos import TEST, TRAIN, VAL
from training.models.networks import build
from training.recipes.recipe import Model
from training.statistics import Ints
from training.studies.fit import Fitted, Pictures, Plan, cross_entropy, fit, logits_of, probabilities_of
from training.studies.flickrlogos32.network import LogoCNN
from training.studies.flickrlogos32.scores import Score, best_threshold, rejecting, score


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to train."""

    name: str
    title: str
    net: Literal["cnn", "transfer"] = "transfer"
    trainable: Literal["all", "head"] = "all"
    #: Rare labels weigh more.
    weighted: bool = False
    #: Trained on logos alone; photos whose best logo scores low are said to show none.
    rejects: bool = False


BASELINE: Final = "baseline"
TRANSFER: Final = "transfer"
HEAD: Final = "head"
VARIANTS: Final = {
    variant.name: variant
    for variant in (
        Variant(BASELINE, "baseline CNN", net="cnn"),
        Variant(HEAD, "transfer, last layer only", trainable="head"),
        Variant(TRANSFER, "transfer, all parameters"),
        Variant("weighted", "transfer, weighted loss", weighted=True),
        Variant("without", "transfer, trained without no-logo, low scores rejected", rejects=True),
    )
}


@dataclass(frozen=True, slots=True)
class Training:
    """What all variants share."""

    px: int
    epochs: int
    batch: int
    rate: float
    weight_decay: float
    hidden: int
    arch: str
    weights: Path | None
    pretrained: bool
    seed: int
    device: str


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished variant."""

    variant: Variant
    net: nn.Module
    fitted: Fitted
    trained_parameters: int
    #: By split.
    scores: Mapping[str, Score]
    #: What it said of the test photos.
    said: Ints
    threshold: float | None = None

    @property
    def seconds(self) -> float:
        """Of training."""
        return sum(epoch.seconds for epoch in self.fitted.epochs)


def network(variant: Variant, training: Training, outputs: int) -> nn.Module:
    """The variant's network with its first weights.

    Raises:
        RecipeError: No such network.
        WeightsError: The weights do not fit or cannot be had.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        if variant.net == "cnn":
            return LogoCNN(outputs, training.px, training.hidden)
        model = Model(
            arch=training.arch,
            weights=training.weights,
            pretrained=training.pretrained,
            trainable=variant.trainable,
        )
        return build(model, outputs)


def label_weights(labels: Ints, outputs: int) -> Tensor:
    """Weights that make every label count alike; their mean over the photos is 1."""
    counts = np.bincount(labels, minlength=outputs)
    there = max(1, int((counts > 0).sum()))
    return torch.from_numpy(np.where(counts > 0, len(labels) / (there * np.maximum(counts, 1)), 0.0)).float()


def train(
    variant: Variant, training: Training, pictures: Mapping[str, Pictures], folder: Path, console: Console
) -> Trained:
    """Trains a variant and scores it on val and test; the no-logo label is the last."""
    outputs = 1 + max(int(some.labels.max()) for some in pictures.values())
    net = network(variant, training, outputs)
    shown = dict(pictures)
    if variant.rejects:
        shown |= {split: _without(pictures[split], outputs - 1) for split in (TRAIN, VAL)}
    weights = label_weights(shown[TRAIN].labels, outputs).to(training.device) if variant.weighted else None
    plan = Plan(
        training.epochs,
        training.batch,
        lambda learned: torch.optim.SGD(learned, training.rate, weight_decay=training.weight_decay),
        cross_entropy(weights),
        seed=training.seed,
        device=training.device,
        name=variant.name,
    )
    fitted = fit(net, shown, plan, folder, console)
    learned = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    return _scored(Trained(variant, net, fitted, learned, {}, np.empty(0, np.int64)), pictures, training.device)


def _without(pictures: Pictures, no_logo: int) -> Pictures:
    kept = np.flatnonzero(pictures.labels != no_logo)
    return Pictures(lambda rng, indices: pictures.pick(rng, kept[indices]), pictures.labels[kept])


def _scored(trained: Trained, pictures: Mapping[str, Pictures], device: str) -> Trained:
    said: dict[str, Ints] = {}
    threshold = None
    for split in (VAL, TEST):
        found = probabilities_of(logits_of(trained.net, pictures[split], device))
        if trained.variant.rejects:
            threshold = best_threshold(found, pictures[split].labels) if threshold is None else threshold
            said[split] = rejecting(found, threshold)
        else:
            said[split] = found.argmax(1)
        no_logo = found.shape[1] - 1
    scores = {split: score(said[split], pictures[split].labels, no_logo) for split in said}
    return replace(trained, scores=scores, said=said[TEST], threshold=threshold)
