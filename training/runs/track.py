"""A run's loss and scores in TensorBoard or MLflow too, where its recipe asks for it; metrics.jsonl has them anyway."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final, Protocol

from training.errors import RunError, ToolMissing
from training.recipes.recipe import Recipe
from training.runs.run import Run

_EXTRA: Final = "needs the extra `tracking`: pip install 'photo-tagger[tracking]'"


class Tracker(Protocol):
    """Takes what a run logs."""

    def log(self, step: int, values: Mapping[str, Any], part: str, /) -> None:
        """Takes the values of a step, counted over all stages; `part` is "train" or "val"."""


class _Nothing:
    def log(self, step: int, values: Mapping[str, Any], part: str, /) -> None:
        pass


NO_TRACKER: Final = _Nothing()


@contextmanager
def tracker(run: Run, recipe: Recipe) -> Iterator[Tracker]:
    """The tracker of `train.track`, closed in the end.

    Yields:
        The tracker, or one that takes no notice.

    Raises:
        ToolMissing: Its package is not installed.
    """
    makers = {"tensorboard": _tensorboard, "mlflow": _mlflow}
    with makers[recipe.train.track](run, recipe) if recipe.train.track else nullcontext(NO_TRACKER) as made:
        yield made


def _scalars(values: Mapping[str, Any], part: str) -> dict[str, float]:
    return {f"{part}/{name}": float(value) for name, value in values.items() if not isinstance(value, bool)}


class _TensorBoard:
    def __init__(self, writer: Any) -> None:  # noqa: ANN401 - an extra without types
        self.writer = writer

    def log(self, step: int, values: Mapping[str, Any], part: str, /) -> None:
        for name, value in _scalars(values, part).items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()


@contextmanager
def _tensorboard(run: Run, _recipe: Recipe) -> Iterator[Tracker]:
    """Event files in the run's folder `tensorboard`.

    Yields:
        The tracker.

    Raises:
        ToolMissing: As `tracker`.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra
    except ImportError:
        raise ToolMissing(f"train.track=tensorboard {_EXTRA}") from None
    with SummaryWriter(str(run.path / "tensorboard")) as writer:
        yield _TensorBoard(writer)


class _MLflow:
    def __init__(self, mlflow: Any) -> None:  # noqa: ANN401 - an extra without types
        self.mlflow = mlflow

    def log(self, step: int, values: Mapping[str, Any], part: str, /) -> None:
        with _explained(self.mlflow):
            self.mlflow.log_metrics(_scalars(values, part), step=step)


@contextmanager
def _explained(mlflow: Any) -> Iterator[None]:  # noqa: ANN401 - as above
    """Turns MLflow's errors into ours.

    Raises:
        RunError: MLflow cannot be reached, or does not take what is logged.
    """
    try:
        yield
    except mlflow.exceptions.MlflowException as error:
        raise RunError(
            f"MLflow: {error}; name a server in MLFLOW_TRACKING_URI, or set train.track=null; a "
            "run that had begun goes on with --resume"
        ) from None


@contextmanager
def _mlflow(run: Run, recipe: Recipe) -> Iterator[Tracker]:
    """A run of MLflow under the same name, where its own settings (MLFLOW_TRACKING_URI) say; resumed with the run.

    Yields:
        The tracker.

    Raises:
        ToolMissing: As `tracker`.
        RunError: As `_explained`.
    """
    try:
        import mlflow  # noqa: PLC0415 - an extra
    except ImportError:
        raise ToolMissing(f"train.track=mlflow {_EXTRA}") from None
    kept = run.path / "mlflow-run"
    known = kept.read_text() if kept.is_file() else None
    with _explained(mlflow):
        started = mlflow.start_run(run_id=known, run_name=run.name)
        kept.write_text(started.info.run_id)
        if known is None:
            train = recipe.train.model_dump(mode="json")
            mlflow.log_params({"task": recipe.task, "arch": recipe.model.arch, "seed": recipe.seed, **train})
    with started:
        yield _MLflow(mlflow)
