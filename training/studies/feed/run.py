"""Runs the study: frozen features, and three heads, each saved so that it can be published."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from training.data.manifest import Manifest
from training.data.photos import TEST, TRAIN, VAL
from training.errors import DataError
from training.heads.novelty import CalibratedNovelty
from training.runs.loop import cpu_seconds
from training.studies.feed import heads, report
from training.studies.feed.data import source_of
from training.studies.rated import (
    Shares,
    features_of,
    last_layer,
    photos_of,
    sides,
)
from training.studies.study import Figure, Options, Result, settings_of

#: 80 for training, 20 for the report, as published; to choose gamma, a part of the 80 is set aside as val.
_SHARES: Final = Shares(val=0.15, test=0.2)
_PUBLISHED_SHARES: Final = Shares(val=0.0, test=0.2)


@dataclass(frozen=True, slots=True)
class Settings:
    """The study's values."""

    #: Networks by name; the study's figures are measured with the first.
    networks: tuple[str, ...] = ("resnet50",)
    #: Input size in pixels; 0: what each was designed for.
    px: int = 0
    components: int = heads.COMPONENTS
    #: A list's column of ratings, and its worst and best value.
    rating: str = "rating"
    scale: tuple[float, float] = (1.0, 5.0)
    workers: int = 2
    #: report.json of a live trial (`photo-trainer trial report`), to compare with the study's.
    trial: str = ""


_QUICK: Final[dict[str, Any]] = {"networks": ("resnet10-w8",), "px": 32, "components": 16}


def run(options: Options, console: Console) -> Result:
    """Runs the study.

    Raises:
        RecipeError: A setting or a network that does not exist.
        DataError: The photos, or the trial, cannot be used.
        WeightsError: The weights do not fit or cannot be had.
    """
    settings = settings_of(Settings(), _QUICK, options)
    by_row, trial = options.as_published, _trial(settings)
    source = source_of(options.data, options.cache / "feed", settings.rating, settings.scale)
    shares = _PUBLISHED_SHARES if by_row else _SHARES
    manifest = photos_of(source, shares, options.seed, settings.workers, console, by_row=by_row)
    networks = {arch: _network(arch, manifest, settings, options, console) for arch in settings.networks}
    first = networks[settings.networks[0]]
    _save_heads(first, options)
    return report.report(networks, manifest, trial, settings.components, options)


def _network(arch: str, manifest: Manifest, settings: Settings, options: Options, console: Console) -> report.Network:
    started = cpu_seconds()
    seen = features_of(arch, manifest, options, console, px=settings.px, workers=settings.workers)
    parts = heads.sided(seen)
    train, test = parts[TRAIN], parts[TEST]
    chosen_on = parts.get(VAL, test)
    layer = heads.head_of(heads.LAYER, last_layer().fit(*train), train, test)
    minutes = (cpu_seconds() - started) / 60
    everything = np.concatenate([features for features, _ in parts.values()]) if options.as_published else None
    machine = heads.svm(train, settings.components, options.seed, everything)
    swept = heads.sweep(train, chosen_on, test, settings.components, options.seed, everything)
    found = [layer, heads.head_of(heads.SVM, machine, train, test)]
    for name, gamma in ((heads.ONE_CLASS, swept.gamma), (heads.AS_PUBLISHED, heads.GAMMA)):
        one = heads.one_class(train, gamma, settings.components, options.seed, everything)
        found.append(heads.head_of(name, CalibratedNovelty(one).fit(*chosen_on), train, test))
    return report.Network(seen, tuple(found), swept, heads.majority(test), minutes)


def _save_heads(first: report.Network, options: Options) -> None:
    train = first.seen.photos[TRAIN]
    rated = [train[int(index)] for index in sides(train)[0]]
    remark = f"From study feed: {first.seen.source.arch} stays frozen; good means good enough for the feed."
    for head in first.heads:
        if head.name != heads.AS_PUBLISHED:
            first.seen.save_head(options.out / f"feed-{head.name}", head.estimator, rated, options, remark)


def _trial(settings: Settings) -> dict[str, Figure]:
    """The figures of a live trial.

    Raises:
        DataError: The file is not a report of one.
    """
    if not settings.trial:
        return {}
    try:
        values: dict[str, Any] = json.loads(Path(settings.trial).read_text())
        picked = values["picked"]
        judged = {name: picked[name] for name in ("usable", "in_context")}
        found = {name: Figure(share["share"], share["low"], share["high"]) for name, share in judged.items()}
        count = Figure(picked["usable"]["judged"] / values["sampled"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise DataError(f"{settings.trial} is not a report of a trial: {type(error).__name__}: {error}") from None
    return {
        "picked by the model in the live trial": count,
        "usable share of the picks": found["usable"],
        "share of the picks in context": found["in_context"],
    }
