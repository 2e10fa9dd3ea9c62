"""Runs the study: metadata, frozen networks, fine-tuning, and two heads that can be published."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from rich.console import Console

from training.data.manifest import Manifest
from training.data.photos import SPLITS, TEST, TRAIN, VAL
from training.errors import RecipeError
from training.evaluation.figures import BLUE, ORANGE, subplots
from training.heads.evaluation import LABELS
from training.studies.bottleneck.heads import bagged, head
from training.studies.grades import STUDY, classical, data, frozen, tuned
from training.studies.pictures import confusion, png, styled
from training.studies.rated import (
    FrozenFeatures,
    Shares,
    balanced,
    crossing_note,
    described,
    features_of,
    levels,
    photos_of,
    sides,
)
from training.studies.study import Figure, Options, Result, Table, proportion, settings_of

_SHARES: Final = Shares(val=0.15, test=0.2)
#: For the cards of the heads.
_REMARK: Final = "A head of two sides takes levels 1 and 2 for poor, 4 and 5 for good, and was not trained on 3."


@dataclass(frozen=True, slots=True)
class Settings:
    """The study's values."""

    #: Networks by name; by default the nine of the study.
    networks: tuple[str, ...] = tuple(net.arch for net in STUDY.models if net.arch)
    #: The network that is fine-tuned, and whose confusion is shown.
    tuned: str = "inception_v3"
    #: Side of the square that networks see; 0: what each was designed for.
    px: int = 0
    #: Metadata features that are kept.
    selected: int = 15
    #: Of each stage of fine-tuning.
    epochs: int = 10
    batch: int = 32
    workers: int = 2


_QUICK: Final[dict[str, Any]] = {"networks": ("resnet10-w8",), "tuned": "resnet10-w8", "px": 32, "epochs": 1}


def run(options: Options, console: Console) -> Result:
    """Runs the study.

    Raises:
        RecipeError: A setting or a network that does not exist.
        DataError: The list or its photos cannot be used.
        WeightsError: The weights do not fit or cannot be had.
    """
    settings = settings_of(Settings(), _QUICK, options)
    if settings.tuned not in settings.networks:
        raise RecipeError(f"tuned ({settings.tuned}) must be one of networks ({', '.join(settings.networks)})")
    source, features = data.source_of(options.data, grouped=True)
    by_row = options.as_published
    manifest = photos_of(source, _SHARES, options.seed, settings.workers, console, by_row=by_row)
    scores = classical.scores(manifest, features, settings.selected, options.seed, as_published=by_row)
    classical.write_csv(scores, options.out / "grades-models.csv")
    related = classical.correlations(manifest, features)
    networks = _networks(manifest, settings, options, console)
    stages = _tuned(manifest, settings, options, console)
    tables = {
        "Nine classical models on metadata, five levels": classical.table(scores),
        "Features that go with the rating": classical.correlation_table(related),
        "Networks, frozen and fine-tuned": Table(frozen.HEADER, (*networks.lines, *stages.lines)),
        **{f"Fine-tuning {settings.tuned}, {name}": stage.fitted.table for name, stage in stages.fitted.items()},
    }
    title = "How features go with each other and with the rating (Spearman, training photos)"
    pictures = {title: classical.correlation_plot(related), **networks.pictures}
    best = max(scores[:-1], key=lambda score: score.val)
    figures = {
        "best classical model, test accuracy": best.test,
        classical.MAJORITY: scores[-1].test,
        **networks.figures,
        **stages.figures,
    }
    notes = _notes(manifest, best.name, networks.best, options)
    return Result(_data(manifest, features, options), tables, pictures, figures, notes)


def _data(manifest: Manifest, features: tuple[str, ...], options: Options) -> str:
    counts = f"{described(manifest)} with {len(features)} metadata features"
    if options.made:
        return (
            f"{counts}, drawn and damaged by code in the study's layout: no camera, no people, and metadata drawn at "
            "random. What is measured shows that every step runs; it says nothing of the published figures."
        )
    return f"{counts}. They are not the study's photos, so the figures are not comparable one to one."


def _notes(manifest: Manifest, best: str, network: str, options: Options) -> tuple[str, ...]:
    others = "were downloaded" if options.pretrained else "start from random weights, whose frozen features say little"
    return (
        crossing_note(manifest.photos),
        f"The classical model that was best on val: {best}.",
        f"Networks with weights of a file: {', '.join(sorted(options.weights)) or 'none'}; others {others}.",
        (
            f"Heads on {network}, whose layer of two sides was best on val, can be published (photo-trainer head "
            "publish): OUT/grades-head (poor and good) and OUT/grades-bagged (study 3's bagged SGD, five levels)."
        ),
    )


@dataclass(frozen=True, slots=True)
class _Networks:
    lines: tuple[tuple[str, ...], ...]
    pictures: dict[str, bytes]
    figures: dict[str, Figure]
    #: The one whose binary layer is best on val.
    best: str


def _networks(manifest: Manifest, settings: Settings, options: Options, console: Console) -> _Networks:
    lines: list[tuple[str, ...]] = []
    pictures: dict[str, bytes] = {}
    figures: dict[str, Figure] = {}
    best, best_val = None, -1.0
    for arch in settings.networks:
        seen = features_of(arch, manifest, options, console, px=settings.px, workers=settings.workers)
        natural, even = (frozen.five(seen, options.seed, balance=balance) for balance in (False, True))
        binary = frozen.two(seen, options.seed)
        for layer, what in (
            (natural, "5 levels as they come"), (even, "5 levels, balanced"), (binary, "poor and good, balanced")
        ):  # fmt: skip
            lines.append(frozen.cells(arch, seen, layer, what))
            for name in layer.never:
                console.print(f"alarm: {arch} never says {name}: it collapsed", style="yellow", highlight=False)
        if arch == settings.tuned:
            pictures |= _shown(arch, natural, even, manifest)
            figures[f"{arch} frozen, 5 levels, test accuracy"] = even.test
            figures[f"{arch} frozen, poor and good, test accuracy"] = binary.test
        if binary.accuracy[VAL] > best_val:
            best, best_val = (arch, seen, binary), binary.accuracy[VAL]
    assert best is not None  # noqa: S101 - settings name a network
    arch, seen, binary = best
    remarks = (f"From study grades: {arch} stays frozen; training photos were balanced.", _REMARK)
    for name, estimator in (("head", binary.estimator), ("bagged", _bagged(seen, options.seed))):
        seen.save_head(options.out / f"grades-{name}", estimator, seen.photos[TRAIN], options, *remarks)
    return _Networks(tuple(lines), pictures, figures, arch)


@styled
def _shown(arch: str, natural: frozen.Layer, even: frozen.Layer, manifest: Manifest) -> dict[str, bytes]:
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
        f"{arch}, trained on photos as they come: test photos": confusion(natural.confusion, LABELS),
        f"{arch}, trained on as many of each rating: test photos": confusion(even.confusion, LABELS),
    }


def _bagged(seen: FrozenFeatures, seed: int) -> Any:  # noqa: ANN401 - scikit-learn ships no types
    """Study 3's bagged classifier, for the five levels."""
    truth = levels(seen.photos[TRAIN])
    chosen = balanced(truth.tolist(), seed)
    features = np.asarray(seen.features[TRAIN])[chosen]
    return head(features, bagged(len(chosen), seed)).fit(features, truth[chosen])


@dataclass(frozen=True, slots=True)
class _Stages:
    lines: tuple[tuple[str, ...], ...]
    figures: dict[str, Figure]
    fitted: dict[str, tuned.Stage]


def _tuned(manifest: Manifest, settings: Settings, options: Options, console: Console) -> _Stages:
    budget = tuned.Budget(settings.tuned, settings.px, settings.batch, settings.epochs, settings.workers)
    first, second = tuned.tune(manifest, budget, options, options.out / "grades-tuned", console)
    count = len(sides(manifest.of(TEST))[0])
    names = {"Adam 1e-3": first, "then RMSprop 1e-5": second}
    lines, figures = [], {}
    for name, stage in names.items():
        if stage.never:
            console.print(f"alarm: {name} never says {', '.join(stage.never)}: it collapsed", style="yellow")
        accuracy = proportion(stage.fitted.best.accuracy[TEST], count)
        figures[f"{settings.tuned} fine-tuned, {name}, test accuracy"] = accuracy
        shares = tuple(f"{stage.fitted.best.accuracy[split]:.3f}" for split in SPLITS)
        start = (settings.tuned, str(settings.px or "own"), "all layers", f"poor and good, {name}")
        lines.append((*start, *shares, accuracy.interval, "", ", ".join(stage.never) or "none", "trained"))
    return _Stages(tuple(lines), figures, names)
