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
from training.studies.feed import heads
from training.studies.feed.data import source_of
from training.studies.feed.heads import Head, Sweep
from training.studies.rated import (
    FrozenFeatures,
    Shares,
    crossing_note,
    described,
    features_of,
    last_layer,
    photos_of,
    sides,
)
from training.studies.study import Figure, Options, Result, Table, settings_of

#: 80 for training, 20 for the report; val is taken from the 80.
_SHARES: Final = Shares(val=0.15, test=0.2)


@dataclass(frozen=True, slots=True)
class Settings:
    """The study's values."""

    #: Networks by name; the study's figures are measured with the first.
    networks: tuple[str, ...] = ("resnet50",)
    #: Input size in pixels; 0: what each was designed for.
    px: int = 0
    components: int = heads.COMPONENTS
    workers: int = 2
    #: report.json of a live trial (`photo-trainer trial report`), to compare with the study's.
    trial: str = ""


_QUICK: Final[dict[str, Any]] = {"networks": ("resnet10-w8",), "px": 32, "components": 16}


@dataclass(frozen=True, slots=True)
class _Network:
    """One network's heads."""

    seen: FrozenFeatures
    heads: tuple[Head, ...]
    sweep: Sweep
    majority: float
    cpu_minutes: float


def run(options: Options, console: Console) -> Result:
    """Runs the study.

    Raises:
        RecipeError: A setting or a network that does not exist.
        DataError: The photos, or the trial, cannot be used.
        WeightsError: The weights do not fit or cannot be had.
    """
    settings = settings_of(Settings(), _QUICK, options)
    by_row, trial = options.as_published, _trial(settings)
    source = source_of(options.data, options.cache / "feed")
    manifest = photos_of(source, _SHARES, options.seed, settings.workers, console, by_row=by_row)
    networks = {arch: _network(arch, manifest, settings, options, console) for arch in settings.networks}
    first = networks[settings.networks[0]]
    train = first.seen.photos[TRAIN]
    rated = [train[int(index)] for index in sides(train)[0]]
    remark = f"From study feed: {first.seen.source.arch} stays frozen; good means good enough for the feed."
    for head in first.heads:
        first.seen.save_head(options.out / f"feed-{head.name}", head.estimator, rated, options, remark)
    chosen_on = "test, as published" if by_row else "val"
    tables = {
        "Heads on frozen features": _table(networks),
        "Area under ROC of the one-class SVM": _sweep_table(first.sweep, chosen_on),
    }
    pictures = {"The one-class SVM's gamma": heads.sweep_plot(first.sweep, "test" if by_row else "val")}
    figures = {**_figures(first), **trial}
    return Result(_data(manifest, options), tables, pictures, figures, _notes(manifest, settings, options))


def _network(arch: str, manifest: Manifest, settings: Settings, options: Options, console: Console) -> _Network:
    started = cpu_seconds()
    seen = features_of(arch, manifest, options, console, px=settings.px, workers=settings.workers)
    parts = heads.sided(seen)
    train, val, test = parts[TRAIN], parts[VAL], parts[TEST]
    layer = heads.head_of(heads.LAYER, last_layer().fit(*train), train, test)
    minutes = (cpu_seconds() - started) / 60
    everything = np.concatenate([features for features, _ in parts.values()]) if options.as_published else None
    machine = heads.svm(train, settings.components, options.seed, everything)
    chosen_on = test if options.as_published else val
    swept = heads.sweep(train, chosen_on, test, settings.components, options.seed)
    novelty = CalibratedNovelty(heads.one_class(train, swept.gamma, settings.components, options.seed)).fit(*val)
    found = (
        layer,
        heads.head_of(heads.SVM, machine, train, test),
        heads.head_of(heads.ONE_CLASS, novelty, train, test),
    )
    return _Network(seen, found, swept, heads.majority(test), minutes)


def _table(networks: dict[str, _Network]) -> Table:
    header = (
        "network", "weights", "head", "train accuracy", "test accuracy", "95 %", "area under ROC", "picked",
        "precision of picks", "95 % of it",
    )  # fmt: skip
    lines: list[tuple[str, ...]] = []
    for arch, network in networks.items():
        lines += [(arch, network.seen.source.origin, *_cells(head)) for head in network.heads]
        lines.append((arch, "", "always the more frequent side", "", f"{network.majority:.3f}", *("",) * 5))
    return Table(header, tuple(lines))


def _cells(head: Head) -> tuple[str, ...]:
    accuracy, precision = head.accuracy, head.precision
    shares = (f"{accuracy.value:.3f}", accuracy.interval, f"{head.auc:.3f}", f"{head.picked:.1%}")
    return (head.name, f"{head.train_accuracy:.3f}", *shares, f"{precision.value:.3f}", precision.interval)


def _sweep_table(found: Sweep, chosen_on: str) -> Table:
    rows = [
        (f"{gamma:g}{' (chosen)' if gamma == found.gamma else ''}", f"{one:.3f}", f"{other:.3f}")
        for gamma, one, other in zip(found.gammas, found.chosen_on, found.test, strict=True)
    ]
    return Table(("gamma", chosen_on, "test"), tuple(rows))


def _figures(first: _Network) -> dict[str, Figure]:
    by_name = {head.name: head for head in first.heads}
    spent = {} if first.seen.cached else {"frozen network, CPU minutes": Figure(first.cpu_minutes)}
    return {
        "frozen network, new last layer, test accuracy": by_name[heads.LAYER].accuracy,
        **spent,
        "always the more frequent side, test accuracy": Figure(first.majority),
        "PCA and SVM, test accuracy": by_name[heads.SVM].accuracy,
        "PCA and SVM, precision of picks on test": by_name[heads.SVM].precision,
        "one-class SVM, area under ROC": Figure(by_name[heads.ONE_CLASS].auc),
        "one-class SVM, chosen gamma": Figure(first.sweep.gamma),
    }


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


def _data(manifest: Manifest, options: Options) -> str:
    counts = described(manifest)
    if options.made:
        return (
            f"{counts}, drawn and damaged by code: no camera, no people. What is measured shows that every step runs; "
            "it says nothing of the published figures."
        )
    return f"{counts}. They are not the study's photos, so the figures are not comparable one to one."


def _notes(manifest: Manifest, settings: Settings, options: Options) -> tuple[str, ...]:
    kept = ", ".join(f"OUT/feed-{name}" for name in (heads.LAYER, heads.SVM, heads.ONE_CLASS))
    random = "" if options.pretrained or settings.networks[0] in options.weights else " It starts from random weights."
    trial = () if settings.trial else ("No live trial stands here: photo-trainer trial, then --set trial=report.json.",)
    return (
        f"The figures are those of {settings.networks[0]}.{random}",
        crossing_note(manifest.photos),
        f"Heads that can be published (photo-trainer head publish): {kept}.",
        f"PCA keeps {settings.components} components, or as many as there are photos and features.",
        *trial,
    )
