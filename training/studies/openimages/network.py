"""The study's network and how it was trained."""

from collections.abc import Iterable
from typing import Final

import torch
from torch import nn
from torch.nn import Parameter

from training.studies.affine import Affine

PX, BATCH, EPOCHS, PATIENCE, RATE = 128, 16, 50, 4, 5e-4
#: Of Keras' ImageDataGenerator; what a picture lacks is filled with its nearest pixel.
CHANGES: Final = Affine(rotation_deg=40, shift=0.2, shear_deg=0.2, zoom=0.2, flip=True)


class SmallCNN(nn.Sequential):
    """Three convolutions and a hidden layer: [N, 3, px, px] of 0..1 to one logit [N, 1], whose sigmoid is the answer.

    First weights are Keras': uniform after Glorot, no bias.
    """

    def __init__(self, px: int = PX, hidden: int = 64) -> None:
        side = px
        for _ in range(3):
            side = (side - 2) // 2
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 32), (32, 32), (32, 64)):
            layers += [nn.Conv2d(inputs, outputs, 3), nn.ReLU(), nn.MaxPool2d(2)]
        super().__init__(
            *layers,
            nn.Flatten(),
            nn.Linear(64 * side * side, hidden),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def optimiser(weights: Iterable[Parameter]) -> torch.optim.Optimizer:
    """Keras' RMSprop at half of its usual rate."""
    return torch.optim.RMSprop(weights, RATE, alpha=0.9, eps=1e-7)
