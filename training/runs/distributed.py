"""One process of a run, or one of several that `torchrun` started: gloo on CPUs, NCCL on GPUs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class Process:
    """This process and the number of all (`world`)."""

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

    def broadcast(self, value: Tensor) -> None:
        """Overwrites a tensor with the leading process's."""
        if self.world > 1:
            distributed.broadcast(value, 0)

    def wait(self) -> None:
        """Returns when every process has called it."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def joined() -> Iterator[Process]:
    """Joins the process group that `torchrun` started; a single process without it.

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
