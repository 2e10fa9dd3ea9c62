"""What tests ask of the weights of trained runs."""

import torch
from rich.console import Console
from torch import Tensor

from training.runs import checkpoint
from training.runs.run import Run
from training.runs.start import train


def weights_of(run: Run) -> dict[str, Tensor]:
    """The weights that a finished run has saved."""
    state: dict[str, Tensor] = torch.load(run.model_file, weights_only=True)["state_dict"]
    return state


def same_weights(run: Run, other: dict[str, Tensor]) -> bool:
    """Whether a finished run has saved the same tensors, to the bit."""
    found = weights_of(run)
    return found.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in found.items())


def ended_again(run: Run) -> int:
    """Trains a finished run on from its last checkpoint, as if it had been killed there; returns its step."""
    run.model_file.unlink()
    run.result_file.unlink()
    reached = int(checkpoint.read(run.checkpoint_file)["progress"]["total"])
    train(run, Console(quiet=True))
    return reached
