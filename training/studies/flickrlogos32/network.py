"""The study's own network, and its first weights."""

import math
from typing import Final

import torch
from torch import nn

_MAGNITUDE: Final = 2.24
_FIRST, _SECOND = 96, 192


class LogoCNN(nn.Sequential):
    """Two convolutions and two linear layers: [N, 3, px, px] to logits [N, outputs].

    Raises:
        ValueError: px is too small to survive the two poolings.
    """

    def __init__(self, outputs: int, px: int = 224, hidden: int = 4096) -> None:
        side = _pooled(_pooled((px - 11) // 4 + 1) - 4)
        if side < 1:
            raise ValueError(f"{px} pixels are too few for this network; at least 67")
        super().__init__(
            nn.Conv2d(3, _FIRST, 11, 4),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(_FIRST, _SECOND, 5),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Flatten(),
            nn.Linear(_SECOND * side * side, hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )
        self.apply(xavier)


def _pooled(side: int) -> int:
    return (side - 3) // 2 + 1


@torch.no_grad()
def xavier(module: nn.Module) -> None:
    """Gluon's Xavier(magnitude=2.24): uniform within sqrt(2.24 / mean of fan-in and fan-out); no bias."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        kernel = math.prod(module.weight.shape[2:])
        fans = (module.weight.shape[0] + module.weight.shape[1]) * kernel
        bound = math.sqrt(_MAGNITUDE / (fans / 2))
        module.weight.uniform_(-bound, bound)
        if module.bias is not None:
            module.bias.zero_()
