"""The networks that the study compares, and the remedies that it proposes, all trained and evaluated the same way."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from training.data.photos import TEST, TRAIN, VAL
from training.models.networks import build, head_of
from training.recipes.recipe import Model
from training.statistics import Floats, Ints
from training.studies.fit import (
    Fitted,
    Pictures,
    Plan,
    cross_entropy,
    device_here,
    fit,
    logits_of,
    model_of,
    probabilities_of,
    seeded,
)
from training.studies.flickrlogos32.nets import DataNorm, LogoCNN, xavier
from training.studies.study import Figure, Options, proportion


@dataclass(frozen=True, slots=True)
class Variant:
    """A network and how it is trained."""

    name: str
    title: str
    net: Literal["cnn", "transfer"] = "transfer"
    trainable: Literal["all", "head"] = "all"
    #: The loss weighs rare labels more.
    weighted: bool = False
    #: Trained on logos alone; photos whose best logo scores low are predicted as no_logo.
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
class Settings:
    """The study's values."""

    px: int = 224
    resize_px: int = 256
    epochs: int = 20
    batch: int = 40
    rate: float = 0.01
    weight_decay: float = 1e-3
    hidden: int = 4096
    transfer: str = "timm/resnetv2_18"
    variants: tuple[str, ...] = tuple(VARIANTS)
    #: Also put the photos into {train,val,test}_data/<class>/ below the cache.
    arrange: bool = False
    workers: int = 2


@dataclass(frozen=True, slots=True)
class Score:
    """Metrics where most photos show no logo, with Wilson's intervals; the last label is no_logo."""

    accuracy: Figure
    #: Photos with a logo whose logo was predicted.
    logo_recall: Figure
    #: Photos without a logo for which one was predicted.
    false_positives: Figure

    @property
    def cells(self) -> tuple[str, str, str]:
        """For a table."""
        accuracy, recall, false = (
            f"{figure.value:.3f} ({figure.interval})"
            for figure in (self.accuracy, self.logo_recall, self.false_positives)
        )
        return accuracy, recall, false


def _share(flags: np.ndarray) -> Figure:
    return proportion(float(flags.mean()) if len(flags) else 0.0, len(flags))


def score(predicted: Ints, labels: Ints, no_logo: int) -> Score:
    """The metrics of predicted labels."""
    branded = labels != no_logo
    return Score(
        _share(predicted == labels), _share((predicted == labels)[branded]), _share((predicted != no_logo)[~branded])
    )


def rejecting(probabilities: Floats, threshold: float) -> Ints:
    """The best brand where its share of all brands' probabilities reaches a threshold, else no_logo."""
    brands = probabilities[:, :-1] / np.maximum(probabilities[:, :-1].sum(1, keepdims=True), 1e-12)
    predicted: Ints = np.where(brands.max(1) >= threshold, brands.argmax(1), probabilities.shape[1] - 1)
    return predicted


def best_threshold(probabilities: Floats, labels: Ints) -> float:
    """The threshold of `rejecting` with the highest accuracy on val; above 1 where none helps."""
    tries = np.append(np.unique(np.round(np.linspace(0, 1, 101), 2)), 1.01)
    rates = [(rejecting(probabilities, float(threshold)) == labels).mean() for threshold in tries]
    return float(tries[int(np.argmax(rates))])


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished variant."""

    variant: Variant
    net: nn.Module
    fitted: Fitted
    trained_parameters: int
    #: By split.
    scores: Mapping[str, Score]
    #: Predicted labels of the test photos.
    predicted: Ints
    #: [N, labels], of the test photos.
    probabilities: Floats
    threshold: float | None = None

    @property
    def seconds(self) -> float:
        """Of training."""
        return sum(epoch.seconds for epoch in self.fitted.epochs)


def network(variant: Variant, settings: Settings, options: Options, outputs: int) -> nn.Module:
    """The variant's network with its initial weights.

    Raises:
        RecipeError: No such network.
        WeightsError: The weights do not fit or cannot be had.
    """
    if variant.net == "cnn":
        return seeded(options.seed, lambda: LogoCNN(outputs, settings.px, settings.hidden))
    net = seeded(options.seed, lambda: _transferred(model_of(settings.transfer, options, variant.trainable), outputs))
    return DataNorm(net) if options.as_published else net


def _transferred(model: Model, outputs: int) -> nn.Module:
    """A pretrained network with a new output layer, whose first weights are the study's."""
    net = build(model, outputs)
    xavier(head_of(net)[1])
    return net


def label_weights(labels: Ints, outputs: int) -> Tensor:
    """Class weights of the loss, inverse to the counts of labels; their mean over the photos is 1."""
    counts = np.bincount(labels, minlength=outputs)
    there = max(1, int((counts > 0).sum()))
    return torch.from_numpy(np.where(counts > 0, len(labels) / (there * np.maximum(counts, 1)), 0.0)).float()


def plan_of(settings: Settings, seed: int, name: str) -> Plan:
    """The study's plan: SGD without momentum; accuracy on train is evaluated after each epoch, like the others."""
    return Plan(
        settings.epochs,
        settings.batch,
        lambda learned: torch.optim.SGD(learned, settings.rate, weight_decay=settings.weight_decay),
        cross_entropy(),
        train_after=True,
        seed=seed,
        name=name,
    )


def train(  # noqa: PLR0917 - as `fit`, with what to train
    variant: Variant,
    settings: Settings,
    options: Options,
    pictures: Mapping[str, Pictures],
    folder: Path,
    console: Console,
) -> Trained:
    """Trains a variant and evaluates it on val and test."""
    outputs = 1 + max(int(some.labels.max()) for some in pictures.values())
    net, device = network(variant, settings, options, outputs), device_here()
    shown = dict(pictures)
    if variant.rejects:
        shown |= {split: _without(pictures[split], outputs - 1) for split in (TRAIN, VAL)}
    weights = label_weights(shown[TRAIN].labels, outputs).to(device) if variant.weighted else None
    plan = replace(
        plan_of(settings, options.seed, variant.name),
        loss=cross_entropy(weights),
        device=device,
        unfinished=options.unfinished("flickrlogos32"),
    )
    fitted = fit(net, shown, plan, folder, console)
    learned = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    return _scored(
        Trained(variant, net, fitted, learned, {}, np.empty(0, np.int64), np.empty((0, 0))), pictures, device
    )


def _without(pictures: Pictures, no_logo: int) -> Pictures:
    kept = np.flatnonzero(pictures.labels != no_logo)
    return Pictures(lambda rng, indices: pictures.pick(rng, kept[indices]), pictures.labels[kept])


def _scored(trained: Trained, pictures: Mapping[str, Pictures], device: str) -> Trained:
    predicted: dict[str, Ints] = {}
    threshold = None
    for split in (VAL, TEST):
        found = probabilities_of(logits_of(trained.net, pictures[split], device))
        if trained.variant.rejects:
            threshold = best_threshold(found, pictures[split].labels) if threshold is None else threshold
            predicted[split] = rejecting(found, threshold)
        else:
            predicted[split] = found.argmax(1)
        no_logo = found.shape[1] - 1
    scores = {split: score(predicted[split], pictures[split].labels, no_logo) for split in predicted}
    return replace(trained, scores=scores, predicted=predicted[TEST], probabilities=found, threshold=threshold)
