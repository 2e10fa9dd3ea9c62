"""The network of both models, and the serving wrappers that put normalisation, temperature and softmax in the graph."""

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Channel means and deviations of ImageNet, in 0..255 units: the models take raw uint8 pixels.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_DEVIATION = (58.395, 57.12, 57.375)
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
        #: The stem holds its norm: then convolution and relu are one for a server, and the pool may come last.
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


class _Served(nn.Module):
    """Takes uint8 NHWC pixels as they are decoded, and divides the logits by a fitted temperature."""

    mean: Tensor
    scale: Tensor

    def __init__(self, net: nn.Module, temperature: float) -> None:
        super().__init__()
        self.net = net
        self.temperature = temperature
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(PIXEL_DEVIATION).view(1, 3, 1, 1))

    def probabilities(self, images: Tensor) -> Tensor:
        pixels = images.float().permute(0, 3, 1, 2)  # cast first: TensorRT wants uint8 inputs turned float at once
        return torch.softmax(self.net((pixels - self.mean) * self.scale) / self.temperature, 1)


class ServedQuality(_Served):
    """uint8 [N, H, W, 3] to (score float32 [N, 1] in 0..1, probabilities of levels 1..5 float32 [N, 5])."""

    steps: Tensor

    def __init__(self, net: nn.Module, temperature: float, levels: int = 5) -> None:
        super().__init__(net, temperature)
        self.register_buffer("steps", torch.linspace(0, 1, levels).view(-1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Score = (expected level - 1) / 4."""
        levels = self.probabilities(images)
        return levels @ self.steps, levels


class ServedBrand(_Served):
    """uint8 [N, H, W, 3] to probabilities float32 [N, brands + 1], `no_logo` last."""

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities that sum to 1."""
        return self.probabilities(images)


def normalise(images: Tensor) -> Tensor:
    """uint8 [N, 3, H, W] to what ResNet10 takes; the same arithmetic as the served graph's."""
    mean, deviation = (
        torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_DEVIATION)
    )
    return (images.float() - mean) * (1 / deviation)
