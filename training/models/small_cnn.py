"""A small network without pretraining, that of study openimages, and the same network as a run's model."""

from typing import Final

import torch
from torch import Tensor, nn

from training.models.served import PIXEL_DEVIATION, PIXEL_MEAN

PX: Final = 128
#: Logit of a label that the network was never taught: a probability of nothing, whatever the others' logits.
_NEVER: Final = -60.0


class SmallCNN(nn.Sequential):
    """Three convolutions and a hidden layer: [N, 3, px, px] of 0..1 to one logit [N, 1] of the second class.

    Initial weights are Keras': Glorot uniform, zero bias.
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


class TwoLabels(nn.Module):
    """A `SmallCNN` as runs serve networks: normalised [N, 3, px, px] to logits of its two labels and of no_logo.

    The softmax of 0 and its logit is the sigmoid that it was trained with; no_logo is never the answer.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, px: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.net = SmallCNN(px)
        for name, values in (("mean", PIXEL_MEAN), ("deviation", PIXEL_DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1) / 255)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images normalised with ImageNet's statistics."""
        second = self.net(images * self.deviation + self.mean)
        others = torch.full_like(second, _NEVER).expand(-1, self.outputs - 2)
        return torch.cat((torch.zeros_like(second), second, others), 1)
