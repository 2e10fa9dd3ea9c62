"""What a run of the study says beside its tables: figures, findings, what differs, notes and plots."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data.manifest import Manifest
from training.data.photos import TEST, TRAIN, VAL
from training.evaluation.figures import BLUE, ORANGE, subplots
from training.heads.evaluation import LABELS
from training.studies.grades import classical, extracted, frozen, tuned
from training.studies.pictures import confusion, png, styled
from training.studies.rated import crossing_note, described, levels
from training.studies.study import Claim, Figure, Options


@dataclass(frozen=True, slots=True)
class Networks:
    """What was measured with the frozen networks."""

    lines: tuple[tuple[str, ...], ...]
    pictures: dict[str, bytes]
    figures: dict[str, Figure]
    #: The one whose binary layer is best on val.
    best: str
    #: Where weights came from, by network.
    origins: dict[str, str]
    #: Of the network that is shown: the layer of five levels, trained on photos as they come.
    natural: frozen.Layer


def best_tuned(stages: Sequence[tuned.Tuned]) -> tuned.Tuned:
    """The network whose second stage is best on val."""
    return max(stages, key=lambda found: found.second.fitted.best.accuracy[VAL])


def tuned_figures(stages: Sequence[tuned.Tuned]) -> dict[str, Figure]:
    """The figures of the network that `best_tuned` names."""
    figures = {}
    for name, stage in best_tuned(stages).stages.items():
        figures[f"fine-tuned, {name}, test accuracy"] = stage.test
        figures[f"fine-tuned, {name}, macro recall"] = Figure(stage.macro_recall)
    return figures


def at_hand(manifest: Manifest, features: tuple[str, ...], options: Options) -> str:
    """The data of a run."""
    filled = [name for name in features if any(photo.metadata.get(name) for photo in manifest.photos)]
    own = sum(name in extracted.FEATURES for name in features)
    counts = (
        f"{described(manifest)} with {len(features)} metadata features, {own} of them from the photos' own files; "
        f"{len(filled)} are filled for any photo"
    )
    if options.made:
        return (
            f"{counts}, drawn and damaged by code in the study's layout: no camera, no people, and metadata drawn at "
            "random. What is measured shows that every step runs; it says nothing of the published figures."
        )
    return f"{counts}. They are not the study's photos, so the figures are not comparable one to one."


def notes(manifest: Manifest, best: str, networks: Networks) -> tuple[str, ...]:
    """Notes for the page."""
    return (
        crossing_note(manifest.photos),
        f"The classical model that was best on val: {best}.",
        f"Weights: {'; '.join(f'{arch}: {origin}' for arch, origin in networks.origins.items())}.",
        *(("Features of random weights tell little.",) if _random(networks) else ()),
        (
            f"Heads on {networks.best}, whose layer of two sides was best on val, can be published (photo-trainer head "
            "publish): OUT/grades-head (poor and good) and OUT/grades-bagged (the bagged SGD of study bottleneck, five "
            "levels)."
        ),
    )


def _random(networks: Networks) -> list[str]:
    return [arch for arch, origin in networks.origins.items() if origin.startswith("random")]


def differs(
    shown: str, epochs: int, networks: Networks, stages: Sequence[tuned.Tuned], options: Options
) -> dict[str, str]:
    """What differs from the article, by figure: photos, network, weights."""
    photos = "drawings by code" if options.made else "other photos"
    weights = networks.origins[shown].partition(";")[0]
    best = best_tuned(stages)
    layer = f"{shown} ({weights}) on {photos}"
    whole = f"{best.arch} ({best.origin.partition(';')[0]}) at {best.px} pixels, {epochs} epochs, on {photos}"
    return {
        "": f"{photos}, whose metadata are others",
        **dict.fromkeys(networks.figures, layer),
        **dict.fromkeys(tuned_figures([best]), whole),
    }


def claims(scores: Sequence[classical.Score], networks: Networks, stages: Sequence[tuned.Tuned]) -> tuple[Claim, ...]:
    """What the article found, beside what this run found."""
    best, tree, tuned_best = classical.best(scores), classical.best_tree(scores), best_tuned(stages)
    frozen_five = networks.natural
    layer = networks.figures[frozen.figure_of(frozen.SIDED, "macro recall")].value
    first, second = tuned_best.first.macro_recall, tuned_best.second.macro_recall
    never = ", ".join(frozen_five.never) or "none"
    return (
        Claim(
            "of the classical models on metadata, trees do best",
            f"{best.name} is best on val; test accuracy {best.test.value:.3f}, the best tree's {tree.test.value:.3f}",
            best.name in classical.TREES,
        ),
        Claim(
            "trained on ratings as they come, a network never says some levels",
            f"levels that are never said: {never}",
            bool(frozen_five.never),
        ),
        Claim(
            "pictures tell more of the rating than metadata",
            f"five levels: {frozen_five.test.value:.3f} from pictures, {best.test.value:.3f} from metadata",
            frozen_five.test.value > best.test.value,
        ),
        Claim(
            "fine-tuning all layers does better than a layer on a frozen network",
            f"macro recall of poor and good: {second:.3f} fine-tuned, {layer:.3f} frozen",
            second > layer,
        ),
        Claim(
            "RMSprop at 1e-5 from the best weights adds to Adam at 1e-3",
            f"macro recall of poor and good: {second:.3f} after {first:.3f}",
            second > first,
        ),
    )


@styled
def pictures_of(arch: str, layers: dict[str, frozen.Layer], manifest: Manifest) -> dict[str, bytes]:
    """Ratings as they come, and the confusion of one network's layers."""
    axes, middle = subplots(5.0, 2.8), np.arange(len(LABELS))
    for split, colour, offset in ((TRAIN, BLUE, -0.2), (TEST, ORANGE, 0.2)):
        counts = np.bincount(levels(manifest.of(split)), minlength=len(LABELS))
        axes.bar(middle + offset, counts, 0.4, color=colour, label=split)
    axes.set_xticks(middle, LABELS)
    axes.set_xlabel("rating")
    axes.set_ylabel("photos")
    axes.legend()
    return {
        "Photos of each rating": png(axes),
        f"{arch}, trained on photos as they come: test photos": confusion(layers[frozen.NATURAL].confusion, LABELS),
        f"{arch}, trained on as many of each rating: test photos": confusion(layers[frozen.EVEN].confusion, LABELS),
    }
