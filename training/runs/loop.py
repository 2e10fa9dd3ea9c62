"""The training loop: stages of steps, evaluations, checkpoints. Killed at any step and resumed, it ends bit-equal.

Budgets are steps, never seconds, so that the same seed gives the same model on a slow machine and on a fast one. All
random numbers of a step come from the seed and the step's number; a checkpoint holds the rest of the state.
"""

import json
import os
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from training.models.head import Head
from training.models.networks import build, set_training
from training.models.served import normalised
from training.progress import task
from training.recipes.recipe import Recipe, Stage
from training.runs import checkpoint
from training.runs.distributed import Process
from training.runs.feed import Batch, Feed, ValidationSet
from training.runs.frozen import FeatureFeed, Frozen, FrozenStages
from training.runs.objective import objective
from training.runs.optimise import fast_bf16, follow, learning_rate, optimiser_of
from training.runs.run import Run
from training.runs.track import NO_TRACKER, Tracker
from training.runs.validate import Score, scores

#: Steps between lines in metrics.jsonl.
_LOG_STEPS: Final = 20
_EVALUATED_AT_ONCE: Final = 128
#: Scores on val that the progress shows.
_NOTED: Final = ("accuracy", "macro_recall", "srcc")
#: Makes the seeds of steps and processes differ.
_PRIME: Final = 1_000_003


def cpu_seconds() -> float:
    """CPU time of this process and its ended children."""
    return sum(os.times()[:4])


@dataclass(slots=True)
class Progress:
    """How far a run is; saved whole in every checkpoint."""

    stage: int = 0
    #: Of the stage, and of all stages.
    step: int = 0
    total: int = 0
    best: float = float("-inf")
    best_total: int = 0
    #: Evaluations without improvement.
    stale: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(slots=True)
class _Stopwatch:
    """Wall and CPU time since they were last added to the progress."""

    wall: float = field(default_factory=time.monotonic)
    cpu: float = field(default_factory=cpu_seconds)

    def add_to(self, progress: Progress) -> None:
        now, used = time.monotonic(), cpu_seconds()
        progress.seconds += now - self.wall
        progress.cpu_seconds += used - self.cpu
        self.wall, self.cpu = now, used


class Trainer:
    """One run in one process."""

    def __init__(  # noqa: PLR0917 - what a run consists of
        self,
        run: Run,
        recipe: Recipe,
        outputs: int,
        feed: Feed,
        validation: ValidationSet | None,
        process: Process,
        console: Console,
        tracker: Tracker = NO_TRACKER,
    ) -> None:
        """`validation` is the val split; None except in the leading process, and where there is nothing to choose."""
        self.run, self.recipe, self.process, self.console = run, recipe, process, console
        self.feed: Feed | FeatureFeed = feed
        self.validation, self.tracker = validation, tracker
        torch.manual_seed(recipe.seed)
        net = build(recipe.model, outputs).to(process.device).to(memory_format=torch.channels_last)
        wanted = recipe.train.bf16
        bf16 = fast_bf16(process.device) if wanted == "auto" else wanted == "on"
        self.frozen = Frozen.of(net, bf16=bf16) if recipe.model.trainable == "head" else None
        below = self.frozen or FrozenStages.of(net, bf16=bf16)
        if below:
            self.feed = FeatureFeed(feed, below, recipe)
        if self.frozen:
            self.validation = validation and self.frozen.validation(validation, console)
        #: What is trained, averaged and saved: the network, or its head where the rest is frozen.
        self.net: nn.Module = self.frozen.head if self.frozen else net
        self.average = deepcopy(self.net).eval()
        self.trained = process.wrapped(self.net)
        self.objective = objective(recipe.task, recipe.loss)
        self.stages: list[Stage] = [recipe.train, *([recipe.train.second] if recipe.train.second else [])]
        self.progress = Progress()
        self.optimiser = optimiser_of(self.net, self.stages[0])
        self.best_state: dict[str, Tensor] = {}
        self.bf16 = bf16 and not self.frozen
        self._spent = _Stopwatch()
        #: What was logged last of each kind.
        self._last: dict[str, dict[str, Any]] = {}

    def fit(self) -> Score | None:
        """Trains from where the run stands to its end; returns the score of the weights that the run keeps."""
        self._restore()
        while self.progress.stage < len(self.stages):
            self._run_stage(self.stages[self.progress.stage])
            self.progress.stage += 1
            self.progress.step = self.progress.stale = 0
            if self.progress.stage < len(self.stages):
                self._begin_stage()
                self._save()  # a resumed run must know that the stage is over, also if it ended early
        if self.recipe.train.best == "best" and self.best_state:
            self.average.load_state_dict(self.best_state)
        return None if self.validation is None else self._score()

    def state(self) -> dict[str, Tensor]:
        """The averaged weights of the whole network."""
        return self.frozen.state(self.average) if self.frozen else self.average.state_dict()

    def _begin_stage(self) -> None:
        """Starts a later stage at the best weights so far, with a new optimiser."""
        if self.process.leads and self.best_state:
            self.average.load_state_dict(self.best_state)
        for name, value in self.average.state_dict().items():
            self.process.broadcast(value)
            self.net.state_dict()[name].copy_(value)
        self.optimiser = optimiser_of(self.net, self.stages[self.progress.stage])

    def _run_stage(self, stage: Stage) -> None:
        progress = self.progress
        first, last = progress.total, progress.total - progress.step + stage.steps
        what = f"{self.run.name}, stage {progress.stage + 1}" if len(self.stages) > 1 else self.run.name
        with task(self.console, what, (last - first) * self.recipe.train.batch) as done:
            for batch in self.feed.ahead(first, last):
                ended = self._after_step(stage, self._step(batch, stage))
                done(len(batch.images) * self.process.world, self._note())
                if ended:
                    return

    def _step(self, batch: Batch, stage: Stage) -> Tensor:
        progress, device = self.progress, self.process.device
        torch.manual_seed((self.recipe.seed * _PRIME + progress.total) * _PRIME + self.process.rank)
        set_training(self.net, keep_norms=self.recipe.model.keep_norms)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(progress.step, stage)
        seen = self._seen(batch.images)
        if self.frozen and not isinstance(self.frozen.head, Head):  # which has its own
            seen = functional.dropout(seen, self.recipe.model.dropout)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.trained(seen)
        answers = len(logits) // len(batch.targets)  # of several members, for each photo
        known = (part.to(device).repeat_interleave(answers, 0) for part in (batch.targets, batch.copies))
        loss = self.objective(logits.float(), *known)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.train.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.train.clip)
        self.optimiser.step()
        follow(self.average, self.net, self.recipe.train.average, progress.total)
        progress.step += 1
        progress.total += 1
        return loss.detach()

    def _seen(self, images: Tensor) -> Tensor:
        """What the trained layers take: normalised photos, or the features that the feed made of them."""
        return images.to(self.process.device) if images.ndim == 2 else normalised(images, self.process.device)

    def _after_step(self, stage: Stage, loss: Tensor) -> bool:
        """Logs, evaluates and saves when due; returns whether the stage ends early."""
        progress, ended = self.progress, False
        at_end = progress.step == stage.steps
        if progress.step % _LOG_STEPS == 0 or at_end:
            self._log("step", loss=round(float(loss), 5), rate=learning_rate(progress.step - 1, stage))
        if progress.step % stage.evaluate_steps == 0 or at_end:
            if self.validation is not None:
                self._evaluate()
            stale = torch.tensor([progress.stale], device=self.process.device)
            self.process.broadcast(stale)
            ended = 0 < stage.patience <= int(stale)
        if progress.total % self.recipe.train.checkpoint_steps == 0 and not (at_end or ended):
            self._save()
        return ended

    def _score(self) -> Score:
        if self.validation is None:
            raise ValueError("only the leading process evaluates")
        self.average.eval()
        with torch.no_grad(), torch.autocast(self.process.device.type, torch.bfloat16, enabled=self.bf16):
            parts = torch.split(self.validation.images, _EVALUATED_AT_ONCE)
            logits = torch.cat([self.average(self._seen(part)).float() for part in parts])
        return scores(self.recipe.task, logits.cpu(), self.validation.targets)

    def _evaluate(self) -> None:
        progress, score = self.progress, self._score()
        better = score.selected > progress.best
        if better:
            progress.best, progress.best_total, progress.stale = score.selected, progress.total, 0
            self.best_state = deepcopy(self.average.state_dict())
        else:
            progress.stale += 1
        self._log("evaluation", **score.values, best=better)

    def _note(self) -> str:
        """The last loss, and the last score on val, for the progress."""
        step, val = self._last.get("step", {}), self._last.get("evaluation", {})
        shown = [("loss", step.get("loss")), *((f"val {name}", val[name]) for name in _NOTED if name in val)]
        return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in shown if value is not None)

    def _log(self, kind: str, **values: Any) -> None:  # noqa: ANN401 - JSON values
        if not self.process.leads:
            return
        self._last[kind] = values
        self.tracker.log(self.progress.total, values, "val" if kind == "evaluation" else "train")
        self._spent.add_to(self.progress)
        line = {
            "kind": kind,
            "stage": self.progress.stage,
            "step": self.progress.total,
            **values,
            "seconds": round(self.progress.seconds, 2),
            "cpu_seconds": round(self.progress.cpu_seconds, 2),
        }
        with self.run.metrics_file.open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        if not self.process.leads:
            return
        self._spent.add_to(self.progress)
        checkpoint.write(
            self.run.checkpoint_file,
            {
                "progress": asdict(self.progress),
                "model": self.net.state_dict(),
                "average": self.average.state_dict(),
                "best": self.best_state,
                "optimiser": self.optimiser.state_dict(),
                "rng": checkpoint.rng_state(),
            },
        )

    def _restore(self) -> None:
        """Loads the last checkpoint, if there is one, and drops the metrics logged after it."""
        if not self.run.checkpoint_file.is_file():
            return
        saved = checkpoint.read(self.run.checkpoint_file)
        self.progress = Progress(**saved["progress"])
        self.net.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.best_state = saved["best"]
        if self.progress.stage < len(self.stages):
            self.optimiser = optimiser_of(self.net, self.stages[self.progress.stage])
            self.optimiser.load_state_dict(saved["optimiser"])
        checkpoint.restore_rng(saved["rng"])
        if self.process.leads:
            kept = [line for line in self.run.metrics() if line["step"] <= self.progress.total]
            checkpoint.write_text(self.run.metrics_file, "".join(json.dumps(line) + "\n" for line in kept))
        self._spent = _Stopwatch()
