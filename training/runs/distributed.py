"""One process of a run, or one of several that `torchrun` started: gloo on CPUs, NCCL on GPUs."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from training.errors import RunError


@dataclass(frozen=True, slots=True)
class Process:
    """This process among all."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and evaluates."""
        return self.rank == 0

    def wrapped(self, net: nn.Module) -> nn.Module:
        """The network as it is trained: gradients are averaged over all processes."""
        if self.world == 1:
            return net
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(net, device_ids=devices)

    def agreed(self, value: int) -> int:
        """The first process's value, in all of them."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], device=self.device)
        distributed.broadcast(shared, 0)
        return int(shared)

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            distributed.barrier()


def alone() -> bool:
    """Whether this process was started by itself, on a machine without a GPU, and may call others."""
    return "RANK" not in os.environ and not torch.cuda.is_available()


def share_out(command: Sequence[str], processes: int) -> None:
    """Runs a command of `photo-trainer` in several processes that train together; their progress goes to this terminal.

    Raises:
        RunError: one of them failed; what it said stands above.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    # One thread each: the launcher would say so on the terminal if it had to choose.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run(  # noqa: S603 - our own command
        [*launcher, "-m", "training.cli", *command], check=False, stdout=subprocess.DEVNULL, env=environment
    )
    if done.returncode:
        raise RunError(f"photo-trainer {' '.join(command)}: one of {processes} processes failed")


@contextmanager
def joined() -> Iterator[Process]:
    """Joins the processes that `torchrun` started; alone without it.

    Yields:
        This process.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world == 1:
        yield Process(rank, world, device)
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Process(rank, world, device)
    finally:
        distributed.destroy_process_group()
