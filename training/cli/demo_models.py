"""Trains the demo's two recipes, evaluates, exports and publishes them, each in a process of its own."""

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from training.cli.console import PlainConsole
from training.evaluation.outcome import Evaluation
from training.evaluation.run import evaluate
from training.evaluation.thresholds import Target
from training.publish.network import candidate_of
from training.publish.release import Release, release
from training.recipes.files import read
from training.runs.memory import keep_memory
from training.runs.run import Run
from training.runs.start import start, unused_name

RECIPES: Final = ("demo-brand", "demo-quality")
#: Real photos vary more than composed ones, so the demo's threshold is at least this.
_TARGET: Final = Target(lowest=0.8)
#: Tiny data for `quick`: the whole path in seconds; its models are useless.
_QUICK: Final = {
    "demo-brand": {"scenes": 24, "held_out_scenes": 12, "held_out": 60},
    "demo-quality": {"scenes": 24, "train": 60, "held_out": 25},
}
_QUICK_STEPS: Final = 4
_QUICK_BATCH: Final = 20
_QUICK_PX: Final = 96
_SHORT_REASON: Final = "trained in minutes, as a demo of every step; the version in service was trained longer"
_QUICK_REASON: Final = "a quick run, as a test of every step; its models are useless"


@dataclass(frozen=True, slots=True)
class Published:
    """A published version: its path, metrics on the test set, and calibration."""

    path: Path
    metrics: dict[str, float]
    calibration: dict[str, float]
    #: Reasons of the gate that more training would fix.
    weak: tuple[str, ...] = ()


def make_models(
    repository: Path, runs: Path, steps: int | None = None, *, quick: bool = False
) -> tuple[Published, ...]:
    """Both models of the demo, brand first; `steps` replaces the recipes' steps, `quick` uses tiny data.

    They are made side by side: a network this small uses one core well and two cores badly.

    Raises:
        GateRefused: A model is useless. One that more training would fix is published with the reason, and a quick
            run's models are published in any case.
    """
    make = partial(_make, repository=repository, runs=runs, steps=steps, quick=quick)
    with ProcessPoolExecutor(len(RECIPES), multiprocessing.get_context("spawn"), _begin) as pool:
        try:
            return tuple(pool.map(make, RECIPES))
        except BaseException:  # an interruption, or one model failed: the other one's minutes are not waited for
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _begin() -> None:
    """Ctrl-C reaches the whole group of processes; the first one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_memory()


class _NamedConsole(PlainConsole):
    """Plain lines that begin with a name, since those of two processes are mixed."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    @property
    def is_terminal(self) -> bool:
        """Never: the bars of two processes would overwrite each other."""
        return False

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - passes them on
        """As the base class, after the name."""
        super().print(f"{self._name}:", *objects, **options)


def _make(name: str, repository: Path, runs: Path, steps: int | None, *, quick: bool) -> Published:
    console = _NamedConsole(name)
    overrides = [f"data.sources.0.{key}={value}" for key, value in _QUICK[name].items()] if quick else []
    overrides += [f"{key}={_QUICK_PX}" for key in ("data.stored_px", "model.input_px")] if quick else []
    overrides += [f"train.batch={_QUICK_BATCH}"] if quick else []
    budget = steps or (_QUICK_STEPS if quick else None)
    overrides += [f"train.steps={budget}"] if budget else []
    run = Run(runs / unused_name(name, runs))
    start(read(name, overrides), run.name, runs, console)
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
