"""The served graph: a network with normalisation, temperature and softmax; and the copy of a network for export."""

from copy import deepcopy
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.models.efficientnet_lite import EfficientNetLite
from training.models.resnet10 import Block, ResNet10

#: Channel means and deviations of ImageNet, in 0..255 units: the models take raw uint8 pixels.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_DEVIATION = (58.395, 57.12, 57.375)
Net = TypeVar("Net", bound=nn.Module)


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


def normalised(images: Tensor, device: torch.device) -> Tensor:
    """Photos [N, 3, H, W], uint8 or float32 in 0..1, as networks take them, on a device."""
    moved = images.to(device)
    pixels = moved * 255 if moved.is_floating_point() else moved
    return normalise(pixels).to(memory_format=torch.channels_last)


def deployable(net: Net) -> Net:
    """A copy for serving: the batch norms of our own networks are folded, and their weights rounded to fp16 values."""
    copied = deepcopy(net).eval()
    for ours in [module for module in copied.modules() if isinstance(module, EfficientNetLite | ResNet10)]:
        if isinstance(ours, EfficientNetLite):
            ours.fold()
        else:
            _fold_resnet(ours)
        with torch.no_grad():
            for parameter in ours.parameters():
                rounded = parameter.half().float()
                # not where weights are beyond fp16's range, or all too small for its steps
                if (rounded - parameter).abs().max() <= parameter.abs().max() * 2**-11:
                    parameter.copy_(rounded)
    return copied


def _fold_resnet(net: Any) -> None:  # noqa: ANN401 - identities take the place of norms
    if bool((net.norm.weight > 0).all()):  # the largest of a pool stays the largest through such a norm alone
        net.stem, net.norm, net.folded = fuse_conv_bn_eval(net.stem, net.norm), nn.Identity(), True
    for block in net.stages:
        assert isinstance(block, Block)  # noqa: S101
        _fold(block)


def _fold(block: Any) -> None:  # noqa: ANN401 - as above
    block.conv1, block.norm1 = fuse_conv_bn_eval(block.conv1, block.norm1), nn.Identity()
    block.conv2, block.norm2 = fuse_conv_bn_eval(block.conv2, block.norm2), nn.Identity()
    if isinstance(block.shortcut, nn.Sequential):
        conv, norm = block.shortcut
        block.shortcut = fuse_conv_bn_eval(cast("nn.Conv2d", conv), cast("nn.BatchNorm2d", norm))
