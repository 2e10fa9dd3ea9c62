"""A ResNet with one block per stage, trained in minutes on two cores."""

from torch import Tensor, nn
from torch.nn import functional

#: Widths of the four stages: 1.2 M parameters, which two CPU cores train in two minutes; a ResNet-18 takes far longer.
WIDTHS = (32, 64, 128, 256)
_STEM_KERNEL_PX = 5
_LEAST_WIDTH = 8


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut: [N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """One residual step."""
        inner = functional.relu(self.norm1(self.conv1(features)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(features))


class ResNet10(nn.Module):
    """A ResNet of one block a stage: normalised float32 [N, 3, H, W] to logits [N, outputs].

    The head averages with `mean`, since adaptive pooling exports as Shape, Range and Gather nodes.

    Raises:
        ValueError: a width is below 8: with so few channels the training step of oneDNN 3.12 (torch 2.14) writes
            beyond its buffers on processors without AVX-512.
    """

    def __init__(self, outputs: int, widths: tuple[int, int, int, int] = WIDTHS, dropout: float = 0.0) -> None:
        if min(widths) < _LEAST_WIDTH:
            raise ValueError(f"widths {widths}: each must be at least {_LEAST_WIDTH}")
        super().__init__()
        #: Whether the norm is folded into the stem: engines then fuse convolution and relu, and the pool comes last.
        self.folded = False
        self.stem = nn.Conv2d(3, widths[0], _STEM_KERNEL_PX, 2, _STEM_KERNEL_PX // 2, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        strides = (1, 2, 2, 2)
        inputs = (widths[0], *widths[:-1])
        self.stages = nn.Sequential(*(Block(i, o, s) for i, o, s in zip(inputs, widths, strides, strict=True)))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised images."""
        features = self.stem(images)
        if self.folded:
            features = functional.max_pool2d(functional.relu(features), 3, 2, 1)
        else:  # the pool first: norm and relu then see a quarter of the pixels
            features = functional.relu(self.norm(functional.max_pool2d(features, 3, 2, 1)))
        return self.head(self.dropout(self.stages(features).mean((2, 3))))  # type: ignore[no-any-return]
