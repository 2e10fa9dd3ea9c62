"""A run that was killed and resumed ends with the weights of the run that was not; other ends leave no half file."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.trained_runs import same_weights, weights_of
from training.errors import DataError, RunError, WeightsError
from training.recipes.files import read
from training.runs import checkpoint
from training.runs.run import Run, load_model, load_split
from training.runs.start import new_run, start, train

DEADLINE_S = 110
pytestmark = pytest.mark.usefixtures("torch_settings")
ROOT = Path(__file__).parents[4]


def started(folder: Path, name: str, *overrides: str) -> Run:
    data = f"data.root={folder / 'photos'}"
    return new_run(read(str(folder / "tiny.yaml"), [data, *overrides]), name, folder)


def learnt(run: Run) -> list[dict[str, Any]]:
    timeless = [{k: v for k, v in line.items() if not k.endswith("seconds")} for line in run.metrics()]
    return sorted(timeless, key=lambda line: (line["step"], line["kind"]))


@pytest.fixture(scope="module")
def whole(folder: Path) -> Run:
    run = started(folder, "whole")
    train(run, Console(quiet=True))
    return run


def kill_after_checkpoints(run: Run, count: int) -> None:
    """Starts training in a process of its own and kills it between two checkpoints, wherever it is by then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "training.cli", "train", "--resume", str(run.path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seen: set[int] = set()
    deadline = time.monotonic() + DEADLINE_S
    while len(seen) < count and process.poll() is None and time.monotonic() < deadline:
        if run.checkpoint_file.exists():
            seen.add(run.checkpoint_file.stat().st_mtime_ns)
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "training ended before it could be killed"


@pytest.mark.timeout(240)
def test_killed_at_any_step_and_resumed_the_weights_are_bit_equal(folder: Path, whole: Run) -> None:
    run = started(folder, "killed")
    kill_after_checkpoints(run, random.randint(1, 7))
    assert not run.model_file.exists()
    reached = checkpoint.read(run.checkpoint_file)["progress"]["total"]
    train(run, Console(quiet=True))
    assert 0 < reached < 32
    assert same_weights(run, weights_of(whole))
    assert learnt(run) == learnt(whole)


def test_two_runs_of_one_recipe_are_the_same_run(folder: Path, whole: Run) -> None:
    again = started(folder, "again")
    result = train(again, Console(quiet=True))
    assert result["model_sha256"] == whole.result()["model_sha256"]
    assert result["data_sha256"] == whole.result()["data_sha256"]


def test_training_is_deterministic_and_fills_no_memory_that_is_overwritten(folder: Path) -> None:
    train(started(folder, "short", "train.second=null", "train.steps=1"), Console(quiet=True))
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]


def test_the_second_stage_starts_at_the_best_of_the_first(whole: Run) -> None:
    stages = [line["stage"] for line in whole.metrics()]
    assert stages == sorted(stages)
    assert set(stages) == {0, 1}
    rates = [line["rate"] for line in whole.metrics() if line["kind"] == "step" and line["stage"] == 1]
    assert max(rates) <= 0.0005


def test_patience_ends_a_stage_early(folder: Path) -> None:
    run = started(folder, "patient", "train.second=null", "train.rate=1.0e-9", "train.patience=1")
    assert train(run, Console(quiet=True))["steps"] == 16


def test_a_run_learns_and_can_be_read_back(whole: Run) -> None:
    assert whole.result()["val"]["accuracy"] > 0.8
    net, spec = load_model(whole)
    assert spec.labels == ("acme", "bolt", "no_logo")
    assert spec.outputs == (("brand_probs", 3),)
    items = list(load_split(whole, "test"))
    assert {int(item.target) for item in items} == {0, 1, 2}
    assert all(item.pixels.dtype == torch.uint8 and item.pixels.shape == (32, 32, 3) for item in items)
    assert {"source", "brightness", "orientation", "megapixels", "colour"} <= set(items[0].slices)
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    environment = whole.environment()
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0]
    manifest = whole.data()
    assert len({photo.sha256 for photo in manifest.photos}) == 42
    assert json.loads(whole.data_file.read_text())["sha256"] == manifest.sha256


def test_a_checkpoint_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    place = tmp_path / "checkpoint.pt"
    checkpoint.write(place, {"step": 1})
    (tmp_path / ".checkpoint.pt.new").write_bytes(b"half of a")
    assert checkpoint.read(place) == {"step": 1}
    place.write_bytes(b"half of a")
    with pytest.raises(RunError, match="checkpoint"):
        checkpoint.read(place)


def test_every_random_number_generator_is_restored() -> None:
    state = checkpoint.rng_state()
    first = [random.random(), float(torch.rand(())), torch.rand(2).tolist()]
    checkpoint.restore_rng(state)
    assert first == [random.random(), float(torch.rand(())), torch.rand(2).tolist()]


def test_a_run_is_never_trained_over(folder: Path, whole: Run) -> None:
    with pytest.raises(RunError, match="exists"):
        started(folder, whole.name)


class Stopped(Console):
    """A console whose user presses Ctrl-C when a task is shown."""

    def __init__(self, task: str) -> None:
        super().__init__(quiet=True)
        self._task = task

    def print(self, *objects: Any, **_options: Any) -> None:
        if str(objects[0]).startswith(self._task):
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("override", "task", "error", "kept"),
    [
        ("data.root=nowhere", "", DataError, False),
        ("model.weights=nowhere.pt", "", WeightsError, False),
        ("seed=5", "photos inspected", KeyboardInterrupt, False),
        ("seed=5", "validation photos", KeyboardInterrupt, True),  # the photos are inspected: it can be resumed
    ],
)
def test_a_start_that_fails_leaves_no_folder(
    folder: Path, tmp_path: Path, override: str, task: str, error: type[BaseException], *, kept: bool
) -> None:
    recipe = read(str(folder / "tiny.yaml"), [f"data.root={folder / 'photos'}", override])
    with pytest.raises(error):
        start(recipe, "one", tmp_path, Stopped(task) if task else Console(quiet=True))
    assert (tmp_path / "one").exists() == kept


def test_a_start_over_another_run_leaves_that_run(folder: Path, whole: Run) -> None:
    with pytest.raises(RunError, match="exists"):
        start(whole.recipe(), whole.name, folder, Console(quiet=True))
    assert whole.result()


@pytest.mark.timeout(240)
def test_two_processes_train_one_model(folder: Path) -> None:
    options = ["--name", "pair", "--runs", str(folder), "--data", str(folder / "photos")]
    overrides = ["--set", "train.steps=4", "--set", "train.second=null", "--set", "train.evaluate_steps=2"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "training.cli", "train", str(folder / "tiny.yaml"), *options, *overrides],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert result["steps"] == 4
    assert Run(folder / "pair").model_file.is_file()
