"""The study's own network, its first weights, and what Gluon's pretrained network begins with."""

import math
from typing import Final

import torch
from torch import Tensor, nn

from training.models.served import PIXEL_DEVIATION, PIXEL_MEAN

#: Of Gluon's Xavier initialiser, and the channels of the study's own network.
_MAGNITUDE: Final = 2.24
_FIRST, _SECOND = 96, 192


class LogoCNN(nn.Sequential):
    """The study's own network, two convolutions and two linear layers: [N, 3, px, px] to logits [N, outputs].

    Raises:
        ValueError: px is too small for the two poolings.
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


class DataNorm(nn.Module):
    """Gluon's resnet18_v2 begins so: a batch norm of the pixels without scale and shift, then the network.

    Its statistics begin as ImageNet's, like those of published weights, and follow the batches of training.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False)
        mean, deviation = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_DEVIATION)
        self.norm.load_state_dict({"running_mean": mean, "running_var": deviation**2}, strict=False)
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of pixels of 0..255."""
        return self.net(self.norm(pixels))  # type: ignore[no-any-return]


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
