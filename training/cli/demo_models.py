"""From nothing to two published versions: train the demo's recipes, evaluate, export, publish."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from training.evaluation.outcome import Evaluation
from training.evaluation.run import evaluate
from training.evaluation.thresholds import Target
from training.publish.network import candidate_of
from training.publish.release import Release, release
from training.recipes.files import read
from training.runs.start import new_run, train, unused_name

RECIPES: Final = ("demo-brand", "demo-quality")
#: Real photos vary more than composed ones: the demo's threshold is never lower than this.
_TARGET: Final = Target(lowest=0.8)
#: The whole path in seconds, for tests: the models that it makes are useless.
_QUICK: Final = {
    "demo-brand": {"scenes": 48, "held_out_scenes": 24, "held_out": 150},
    "demo-quality": {"scenes": 48, "train": 128, "held_out": 75},
}
_QUICK_STEPS: Final = 6
_SHORT_REASON: Final = "trained from nothing in minutes, to see every step; the version in service had more time"
_QUICK_REASON: Final = "a quick run, to see every step work; its models are useless"


@dataclass(frozen=True, slots=True)
class Published:
    """Where a version is, what it measured on the test set, and the values of its decision."""

    path: Path
    metrics: dict[str, float]
    calibration: dict[str, float]
    #: What more training would mend.
    weak: tuple[str, ...] = ()


def make_models(
    repository: Path, console: Console, runs: Path, steps: int | None = None, *, quick: bool = False
) -> tuple[Published, ...]:
    """Both models of the demo, brand first; `steps` replaces the recipes' budgets, `quick` makes all of it tiny.

    Raises:
        GateRefused: A model is useless; one that more training would mend is published and says so, and a quick run's
            models are published whatever they are.
    """
    return tuple(_make(name, repository, console, runs, steps, quick=quick) for name in RECIPES)


def _make(name: str, repository: Path, console: Console, runs: Path, steps: int | None, *, quick: bool) -> Published:
    overrides = [f"data.sources.0.{key}={value}" for key, value in _QUICK[name].items()] if quick else []
    budget = steps or (_QUICK_STEPS if quick else None)
    overrides += [f"train.steps={budget}"] if budget else []
    run = new_run(read(name, overrides), unused_name(name, runs), runs)
    train(run, console)
    forced = _QUICK_REASON if quick else None
    found = evaluate(run, _TARGET, console)
    return _published(found.evaluation, release(candidate_of(found), repository, forced, _SHORT_REASON))


def _published(evaluation: Evaluation, done: Release) -> Published:
    metrics = {}
    for name, figure in evaluation.figures.items():
        metrics[name] = figure.value
        if name == "accuracy":
            metrics |= {f"{name}_{other.replace(' ', '_')}": value for other, value in figure.baselines.items()}
    return Published(done.path, metrics, dict(evaluation.decision), done.decision.minor_refusals)
