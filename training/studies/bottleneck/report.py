"""The study's tables, plots, figures and notes, and its head's model card."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.data.photos import TRAIN, VAL
from training.heads.features import Backbone
from training.studies.bottleneck.heads import Guess, Worth
from training.studies.bottleneck.plots import guessed, histogram, samples, spread
from training.studies.fit import Fitted
from training.studies.labelled import LabelledPhotos
from training.studies.study import Claim, Figure, Options, Result, Table, proportion

#: The bias of the published weights, for the card and the page.
IMAGENET_BIAS: Final = (
    "ImageNet holds these breeds, and the photos come from it: networks that were trained on ImageNet have seen the "
    "labels, and perhaps the photos, of val. Figures with such weights say nothing about classes that ImageNet lacks."
)
RANDOM_BIAS: Final = "Random weights have seen nothing: their features hold little more than colour and texture."
#: Share of the log loss of guessing at and above which a head has learned nothing.
_NEARLY: Final = 0.99


@dataclass(frozen=True, slots=True)
class Network:
    """A frozen network and the metrics of its heads, one for each seed."""

    source: Backbone
    bags: tuple[Worth, ...]
    singles: tuple[Worth, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """The results of a run."""

    breeds: LabelledPhotos
    networks: tuple[Network, ...]
    #: The one with the lowest log loss on val.
    best: Network
    tuned: Mapping[str, Fitted]
    guesses: tuple[Guess, ...]
    #: Below it a guess is flagged.
    limit: float


def bias_of(source: Backbone) -> str:
    """The known bias of a head on a network, by the origin of its weights."""
    if source.origin == "pretrained":
        return IMAGENET_BIAS
    if source.origin.startswith("random"):
        return RANDOM_BIAS
    return f"The weights are from {source.origin}: if they were trained on ImageNet, this holds. {IMAGENET_BIAS}"


def report(found: Finding, trainable: str, options: Options) -> Result:
    """The result of a run."""
    return Result(
        data=found.breeds.description,
        tables=_tables(found),
        pictures={
            f"Photos of each class; the mean is {_mean(found.breeds):.1f}": histogram(found.breeds),
            "Spread over seeds: a point for each, and a line at their mean": spread(_losses(found)),
        },
        photos=_photos(found),
        figures=_figures(found),
        notes=_notes(found, trainable),
        differs={"": _differs(found, options)},
        claims=_claims(found),
    )


def _photos(found: Finding) -> dict[str, bytes]:
    photos = {"Sample photos of each class, from train": samples(found.breeds)}
    if found.guesses:
        photos["Pictures from elsewhere, and the five most probable classes of each"] = guessed(found.guesses)
    return photos


def _mean(breeds: LabelledPhotos) -> float:
    return float(np.mean(list(breeds.counts(TRAIN, VAL).values())))


def _losses(found: Finding) -> dict[str, tuple[list[float], list[float]]]:
    """Log losses on val of single classifiers and of bags, by network."""
    return {
        network.source.arch: ([w.val_loss for w in network.singles], [w.val_loss for w in network.bags])
        for network in found.networks
    }


def _differs(found: Finding, options: Options) -> str:
    photos = "drawings by code" if options.made else "other photos"
    used = sorted({f"{network.source.arch} ({network.source.origin.partition(';')[0]})" for network in found.networks})
    return f"{photos}; {', '.join(used)}"


def _claims(found: Finding) -> tuple[Claim, ...]:
    singles, bags = zip(*_losses(found).values(), strict=True)
    one, many = (np.array([np.std(losses, ddof=1) for losses in side]) for side in (singles, bags))
    worse, better = (np.array([np.mean(losses) for losses in side]) for side in (singles, bags))
    best = int(better.argmin())
    return (
        Claim(
            "a bag of classifiers depends less on chance than a single one",
            f"over seeds the log loss on val deviates less for {(many < one).sum()} of {len(one)} networks",
            bool((many < one).all()),
        ),
        Claim(
            "a bag of classifiers is better than a single one",
            f"log loss on val {better[best]:.3f} against {worse[best]:.3f} on {found.best.source.arch}; it is lower "
            f"for {(better < worse).sum()} of {len(better)} networks",
            bool((better < worse).all()),
        ),
    )


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def _heads(found: Finding) -> Table:
    lines = []
    for network in found.networks:
        for kind, worths in (("single SGD", network.singles), ("bagged SGD", network.bags)):
            columns = [_spread([getattr(worth, name) for worth in worths]) for name in Worth.__slots__]
            lines.append((network.source.arch, network.source.origin, kind, *columns))
    head = ("network", "weights", "head", "train log loss", "train accuracy", "val log loss", "val accuracy")
    return Table(head, tuple(lines))


def _tables(found: Finding) -> dict[str, Table]:
    seeds = len(found.best.bags)
    tables = {f"Heads on bottleneck features, mean and deviation of {seeds} seeds": _heads(found)}
    lines = [
        (
            arch,
            f"{fitted.best.number} of {len(fitted.epochs)}",
            f"{fitted.best.loss:.3f}",
            f"{fitted.best.accuracy[TRAIN]:.3f}",
            f"{fitted.best.val_loss:.3f}",
            f"{fitted.best.accuracy[VAL]:.3f}",
            f"{sum(epoch.seconds for epoch in fitted.epochs):.0f}",
        )
        for arch, fitted in found.tuned.items()
    ]
    head = ("network", "best epoch", "train log loss", "train accuracy", "val log loss", "val accuracy", "seconds")
    tables["Fine-tuning"] = Table(head, tuple(lines))
    if found.guesses:
        title = f"Pictures from elsewhere; flagged where the best guess is below {found.limit:.2f}"
        rows = tuple((guess.picture, guess.text, "flagged" if guess.flagged else "") for guess in found.guesses)
        tables[title] = Table(("picture", "five guesses", ""), rows)
    return tables


def _figures(found: Finding) -> dict[str, Figure]:
    breeds = found.breeds
    sizes = {split: len(breeds.of(split)) for split in (TRAIN, VAL)}
    figures = {
        "classes": Figure(float(len(breeds.labels))),
        "train photos": Figure(float(sizes[TRAIN])),
        "val photos": Figure(float(sizes[VAL])),
        "photos of a class": Figure(_mean(breeds)),
        "always the most frequent class, val accuracy": proportion(_majority(breeds), sizes[VAL]),
    }
    for network in found.networks:
        name = network.source.arch
        accuracy = float(np.mean([worth.val_accuracy for worth in network.bags]))
        figures[f"{name}, bagged, val accuracy"] = proportion(accuracy, sizes[VAL])
        figures[f"{name}, bagged, val log loss"] = Figure(float(np.mean([w.val_loss for w in network.bags])))
        for kind, worths in (("single", network.singles), ("bagged", network.bags)):
            figures[f"{name}, {kind}, deviation of val log loss"] = Figure(
                float(np.std([worth.val_loss for worth in worths], ddof=1))
            )
    for arch, fitted in found.tuned.items():
        figures[f"{arch}, fine-tuned, val accuracy"] = proportion(fitted.best.accuracy[VAL], sizes[VAL])
    return figures


def _majority(breeds: LabelledPhotos) -> float:
    """Accuracy on val of the class that training has most photos of."""
    return float((breeds.labels_of(VAL) == np.bincount(breeds.labels_of(TRAIN)).argmax()).mean())


def _notes(found: Finding, trainable: str) -> tuple[str, ...]:
    moved = (
        "every weight moves"
        if trainable == "all"
        else "a new top moves alone (`--set trainable=all` unlocks all layers)"
    )
    return (
        *found.breeds.notes,
        *_blind(found),
        f"Known bias: {bias_of(found.best.source)}",
        "Variance threshold 0.1, or less where that would leave under half of the features; fitted on train alone.",
        f"In fine-tuning {moved}; the best of the epochs is the one that is best on val, so its figure is optimistic.",
        "The cache holds the best network's head as an ONNX graph of features (head.onnx), and its card (card.md).",
    )


def _blind(found: Finding) -> tuple[str, ...]:
    """Names the networks whose features carry no information, if there are any."""
    evenly = math.log(len(found.breeds.labels))
    names = [n.source.arch for n in found.networks if np.mean([w.val_loss for w in n.bags]) > _NEARLY * evenly]
    if not names:
        return ()
    return (f"Features of {', '.join(names)} tell nothing: the log loss on val is that of guessing, {evenly:.3f}.",)


def card(found: Finding) -> str:
    """The model card of the best network's head, in Markdown."""
    source, worths = found.best.source, found.best.bags
    return (
        f"# Model card: bagged SGD on features of {source.arch}\n\n"
        f"Tells {len(found.breeds.labels)} classes apart. {found.breeds.description}\n\n"
        f"- weights: {source.origin} (SHA-256 of all tensors {source.weights_sha256})\n"
        f"- input: {source.geometry.input_size} pixels, {source.width} features\n"
        f"- log loss on val: {_spread([worth.val_loss for worth in worths])}\n"
        f"- accuracy on val: {_spread([worth.val_accuracy for worth in worths])}\n"
        f"- a best guess below {found.limit:.3f} is unlike what the head knows\n\n"
        f"## Known biases\n\n{bias_of(source)}\n"
    )
