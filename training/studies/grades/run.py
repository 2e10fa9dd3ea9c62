"""Runs the study: metadata, frozen networks, fine-tuning, and two heads that can be published."""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from rich.console import Console

from training.data.manifest import Manifest
from training.data.photos import TRAIN, VAL
from training.errors import RecipeError
from training.progress import task
from training.studies.bottleneck.heads import bagged, head
from training.studies.grades import STUDY, classical, data, extracted, frozen, report, tuned
from training.studies.rated import (
    FrozenFeatures,
    Shares,
    balanced,
    features_of,
    levels,
    photos_of,
)
from training.studies.study import Options, Result, Table, settings_of

_SHARES: Final = Shares(val=0.15, test=0.2)
#: For the cards of the heads.
_REMARK: Final = "A head of two sides takes levels 1 and 2 for poor, 4 and 5 for good, and was not trained on 3."


@dataclass(frozen=True, slots=True)
class Settings:
    """The study's values."""

    #: Networks by name; by default the nine of the study.
    networks: tuple[str, ...] = tuple(net.arch for net in STUDY.models if net.arch)
    #: Those that are fine-tuned; by default all of them.
    tuned: tuple[str, ...] = ()
    #: The one whose confusion is shown and whose figures stand beside the article's; by default the article's, or the
    #: first.
    shown: str = ""
    #: Side of the square that networks see; 0: what each was designed for.
    px: int = 0
    #: The same in fine-tuning; 0: as above.
    tuned_px: int = 0
    #: Column of the ratings, and its worst and best value.
    rating: str = data.RATING
    scale: tuple[float, float] = data.AS_LEVELS
    #: Whether the metadata of the photos' own files stand beside the list's columns.
    extracted: bool = True
    #: Metadata features that are kept.
    selected: int = 15
    #: Of each stage of fine-tuning.
    epochs: int = 10
    batch: int = 32
    workers: int = 2


_QUICK: Final[dict[str, Any]] = {"networks": ("resnet10-w8",), "px": 32, "epochs": 1}
_ARTICLES: Final = "inception_v3"


def run(options: Options, console: Console) -> Result:
    """Runs the study.

    Raises:
        RecipeError: A setting or a network that does not exist.
        DataError: The list or its photos cannot be used.
        WeightsError: The weights do not fit or cannot be had.
    """
    settings = _resolved(settings_of(Settings(), _QUICK, options))
    manifest, features = _photos(settings, options, console)
    scores = classical.scores(manifest, features, settings.selected, options.seed, as_published=options.as_published)
    classical.write_csv(scores, options.out / "grades-models.csv")
    related = classical.correlations(manifest, features)
    networks = _networks(manifest, settings, options, console)
    stages = [_tune(arch, manifest, settings, options, console) for arch in settings.tuned]
    tables = {
        "Nine classical models on metadata, five levels": classical.table(scores),
        "Features that go with the rating": classical.correlation_table(related),
        "Frozen networks under a new last layer": Table(frozen.HEADER, networks.lines),
        "Fine-tuning all layers, poor and good": Table(
            tuned.HEADER, tuple(line for found in stages for line in tuned.lines(found))
        ),
        **{
            f"Fine-tuning {found.arch}, {name}": stage.fitted.table
            for found in stages
            for name, stage in found.stages.items()
        },
    }
    title = "How features go with each other and with the rating (Spearman, training photos)"
    return Result(
        report.at_hand(manifest, features, options),
        tables,
        {title: classical.correlation_plot(related), **networks.pictures},
        figures={**classical.figures(scores), **networks.figures, **report.tuned_figures(stages)},
        differs=report.differs(settings.shown, settings.epochs, networks, stages, options),
        claims=report.claims(scores, networks, stages),
        notes=report.notes(manifest, classical.best(scores).name, networks),
    )


def _resolved(settings: Settings) -> Settings:
    """The settings with the networks that are tuned and shown by default.

    Raises:
        RecipeError: One of them is none of the networks.
    """
    networks = settings.networks
    tuned_ones = settings.tuned or networks
    shown = settings.shown or (_ARTICLES if _ARTICLES in networks else networks[0])
    if others := {*tuned_ones, shown} - {*networks}:
        raise RecipeError(f"{', '.join(sorted(others))}: tuned and shown must be of networks ({', '.join(networks)})")
    return replace(settings, tuned=tuned_ones, shown=shown)


def _photos(settings: Settings, options: Options, console: Console) -> tuple[Manifest, tuple[str, ...]]:
    """The photos, rated by whole levels, with the names of their metadata."""
    listing = data.Listing(settings.rating, settings.scale, extracted=settings.extracted)
    source, features = data.source_of(options.data, listing)
    by_row = options.as_published
    manifest = photos_of(source, _SHARES, options.seed, settings.workers, console, by_row=by_row)
    photos = tuple(replace(photo, rating=float(round(photo.rating or 0))) for photo in manifest.photos)
    if settings.extracted:
        with task(console, "metadata of files", len(photos)) as done:
            photos = extracted.with_metadata(photos, settings.workers, done)
    return replace(manifest, photos=photos), features


def _networks(manifest: Manifest, settings: Settings, options: Options, console: Console) -> report.Networks:
    lines: list[tuple[str, ...]] = []
    origins: dict[str, str] = {}
    best, shown = None, None
    for arch in settings.networks:
        seen = features_of(arch, manifest, options, console, px=settings.px, workers=settings.workers)
        layers = frozen.layers(seen, options.seed)
        origins[arch] = seen.source.origin
        for what, layer in layers.items():
            lines.append(frozen.cells(arch, seen, layer, what))
            for name in layer.never:
                console.print(f"alarm: {arch} never says {name}: it collapsed", style="yellow", highlight=False)
        shown = layers if arch == settings.shown else shown
        binary = layers[frozen.SIDED]
        if best is None or binary.accuracy[VAL] > best[2].accuracy[VAL]:
            best = (arch, seen, binary)
    assert best is not None  # noqa: S101 - settings name a network
    assert shown is not None  # noqa: S101 - one of them
    _save_heads(best[0], best[1], best[2], options)
    pictures = report.pictures_of(settings.shown, shown, manifest)
    return report.Networks(tuple(lines), pictures, frozen.figures(shown), best[0], origins, shown[frozen.NATURAL])


def _save_heads(arch: str, seen: FrozenFeatures, binary: frozen.Layer, options: Options) -> None:
    remarks = (f"From study grades: {arch} stays frozen; training photos were balanced.", _REMARK)
    for name, estimator in (("head", binary.estimator), ("bagged", _bagged(seen, options.seed))):
        seen.save_head(options.out / f"grades-{name}", estimator, seen.photos[TRAIN], options, *remarks)


def _bagged(seen: FrozenFeatures, seed: int) -> Any:  # noqa: ANN401 - scikit-learn ships no types
    """The bagged classifier of study bottleneck, for the five levels."""
    truth = levels(seen.photos[TRAIN])
    chosen = balanced(truth.tolist(), seed)
    features = np.asarray(seen.features[TRAIN])[chosen]
    return head(features, bagged(len(chosen), seed)).fit(features, truth[chosen])


def _tune(arch: str, manifest: Manifest, settings: Settings, options: Options, console: Console) -> tuned.Tuned:
    budget = tuned.Budget(arch, settings.tuned_px or settings.px, settings.batch, settings.epochs, settings.workers)
    return tuned.tune(manifest, budget, options, options.out / "grades-tuned", console)
