"""EfficientNet-Lite: no squeeze-and-excitation and bounded activations, so that it quantises.

Source: Google's EfficientNet-lite (tensorflow/tpu, 2020). Layers are named as in the published weights, those of
lukemelas' EfficientNet-PyTorch, which thereby load without a map of names.
"""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.models.head import Head

#: Factors of width and depth, and the side in px that it was designed for, by number.
SIZES: Final = {0: (1.0, 1.0, 224), 1: (1.0, 1.1, 240), 2: (1.1, 1.2, 260)}
#: Pixels are scaled by (x - 127) / 128.
MEAN: Final = (127 / 255,) * 3
DEVIATION: Final = (128 / 255,) * 3
_STEM: Final = 32
_TOP: Final = 1280
#: Keeps the root's slope finite where a channel is constant.
_LEAST_VARIANCE: Final = 1e-6


class _Stage(NamedTuple):
    """Blocks of one width; the first one strides."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


_STAGES: Final = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class _Conv(nn.Conv2d):
    """Pads as TensorFlow's "same": with a stride, the odd pixel goes to the right and to the bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name is torch's
        """[N, inputs, H, W] to [N, outputs, ceil(H / stride), ceil(W / stride)]."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride > 1:
            height, width = (max(0, (math.ceil(px / stride) - 1) * stride + kernel - px) for px in input.shape[-2:])
            input = functional.pad(  # noqa: A001 - as above
                input, (width // 2, width - width // 2, height // 2, height - height // 2)
            )
        return super().forward(input)


def _bounded(fresh: Tensor) -> Tensor:
    """ReLU6 of what a layer just made, in its place: no memory is filled anew (8 % of a forward pass)."""
    return functional.relu6(fresh, inplace=True)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class _Block(nn.Module):
    """An inverted residual: expansion, depthwise convolution, projection."""

    def __init__(self, inputs: int, outputs: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        inner = inputs * stage.expansion
        if inner != inputs:
            self._expand_conv, self._bn0 = _Conv(inputs, inner), _norm(inner)
        self._depthwise_conv, self._bn1 = _Conv(inner, inner, stage.kernel, stride, groups=inner), _norm(inner)
        self._project_conv, self._bn2 = _Conv(inner, outputs), _norm(outputs)
        self.expands, self.adds = inner != inputs, stride == 1 and inputs == outputs
        #: Channels of what `widen` makes, and of what it returns.
        self.inner, self.width = inner, outputs

    def forward(self, features: Tensor) -> Tensor:
        return self.project(self.widen(features), features)

    def widen(self, features: Tensor) -> Tensor:
        """The features between expansion and projection, up to six times as many channels."""
        inner = _bounded(self._bn0(self._expand_conv(features))) if self.expands else features
        if self.training and inner.requires_grad:
            with torch.autocast(inner.device.type, enabled=False):  # in bf16, its backward pass is slow on a CPU
                return self._spread(inner.float())
        return self._spread(inner)

    def project(self, inner: Tensor, features: Tensor) -> Tensor:
        """The block's output, of what `widen` made of its input."""
        made: Tensor = self._bn2(self._project_conv(inner))
        return made + features if self.adds else made

    def _spread(self, inner: Tensor) -> Tensor:
        return _bounded(self._bn1(self._depthwise_conv(inner)))


class EfficientNetLite(nn.Module):
    """Pixels float32 [N, 3, H, W], scaled as `MEAN` and `DEVIATION` say, to logits [N, outputs].

    Args:
        number: A key of `SIZES`.
        outputs: Width of the last layer.
        dropout: Before it.
        stages: Of so many stages the head also sees mean and deviation of the channels: early ones tell of sharpness
            and noise, which the top has learnt to overlook. With fewer than all seven, what follows is left out.
        blocks: If not 0, only so many blocks are left, and the head sees mean and deviation of the channels of the stem
            and of every block, instead of the top.
        inner: With `blocks`, the head also sees the means of the channels inside every block, before they are projected
            to a sixth of them: they hold more of what people look at, and are computed anyway.
        hidden: Units of a layer in the head; 0 for none.
        members: Such layers, whose answers are averaged.
        damage: Units of another one, which sees damage (`Head`).

    Raises:
        ValueError: There are fewer blocks.
    """

    def __init__(
        self,
        number: int,
        outputs: int,
        dropout: float = 0.0,
        *,
        stages: int = 0,
        blocks: int = 0,
        inner: bool = False,
        hidden: int = 0,
        members: int = 1,
        damage: int = 0,
    ) -> None:
        super().__init__()
        wider, deeper, _ = SIZES[number]
        self._conv_stem, self._bn0 = _Conv(3, _STEM, 3, 2), _norm(_STEM)
        made: list[_Block] = []
        #: Index of the last block of every stage.
        self.ends: list[int] = []
        inputs = _STEM
        for place, stage in enumerate(_STAGES):
            width = _rounded(stage.width * wider)
            fixed = place in {0, len(_STAGES) - 1}
            for index in range(stage.blocks if fixed else math.ceil(stage.blocks * deeper)):
                made.append(_Block(inputs, width, stage, 1 if index else stage.stride))
                inputs = width
            self.ends.append(len(made) - 1)
        if blocks > len(made):
            raise ValueError(f"EfficientNet-Lite{number} has {len(made)} blocks, not {blocks}")
        left = blocks or (self.ends[stages - 1] + 1 if 0 < stages < len(self.ends) else 0)
        self._blocks = nn.ModuleList(made[: left or None])
        #: Blocks, by index, whose moments the head sees; whether it sees those of the stem, and the top.
        self.watched = frozenset(range(blocks) if blocks else self.ends[:stages])
        self.stem, self.inner, self.tops = bool(blocks), inner, not left
        #: Blocks, of the first ones, that stay as they are.
        self.frozen = 0
        seen = self._seen(len(made)) + _TOP * self.tops
        if self.tops:
            self._conv_head, self._bn1 = _Conv(inputs, _TOP), _norm(_TOP)
        self._fc: nn.Module = Head(seen, outputs, hidden=hidden, dropout=dropout, members=members, damage=damage)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of scaled pixels [N, 3, S, S], or of what `below` made of them [N, F]."""
        if pixels.ndim == 2:
            features, seen = self._apart(pixels)
        else:
            features, seen = self._begun(pixels)
        features = self._through(features, seen, self.frozen, len(self._blocks))
        if self.tops:
            seen.insert(0, _bounded(self._bn1(self._conv_head(features))).mean((2, 3)))
        made: Tensor = self._fc(torch.cat(seen, 1))
        return made

    def below(self, pixels: Tensor) -> Tensor:
        """Rows [N, F] of scaled pixels: the features of the frozen layers, and what the head sees of these layers."""
        features, seen = self._begun(pixels)
        return torch.cat([features.permute(0, 2, 3, 1).flatten(1).float(), *seen], 1)

    def _begun(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = _bounded(self._bn0(self._conv_stem(pixels)))
        seen = [*_moments(features)] if self.stem else []
        return self._through(features, seen, 0, self.frozen), seen

    def _apart(self, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The rows of `below` as features, channels last in memory, and what the head sees."""
        width, end = cast("_Block", self._blocks[self.frozen - 1]).width, rows.shape[1] - self._seen(self.frozen)
        side = math.isqrt(end // width)
        return rows[:, :end].reshape(-1, side, side, width).permute(0, 3, 1, 2), [rows[:, end:]]

    def _seen(self, blocks: int) -> int:
        """How many values of the stem and of the first blocks the head sees."""
        watched = [cast("_Block", self._blocks[index]) for index in range(blocks) if index in self.watched]
        return 2 * _STEM * self.stem + sum(2 * block.width + block.inner * self.inner for block in watched)

    def _through(self, features: Tensor, seen: list[Tensor], first: int, last: int) -> Tensor:
        """Puts features through some blocks, and adds to `seen` what the head sees of them."""
        for index in range(first, last):
            block = cast("_Block", self._blocks[index])
            if self.inner and index in self.watched:
                inside = block.widen(features)
                seen.append(inside.float().mean((2, 3)))
                features = block.project(inside, features)
            else:
                features = block(features)
            if index in self.watched:
                seen += _moments(features)
        return features

    def freeze(self, stages: int) -> None:
        """Keeps the stem and the first stages as they are; they cost no backward pass."""
        blocks = self._blocks[: self.ends[min(stages, len(self.ends)) - 1] + 1]
        self.frozen = len(blocks)
        for layer in (self._conv_stem, self._bn0, blocks):
            layer.requires_grad_(requires_grad=False)

    def fold(self) -> None:
        """Puts every norm, with its statistics, into the layer beside it, in place."""
        _fold_norms(self, {"_conv_stem": "_bn0", "_conv_head": "_bn1"})
        for block in self._blocks:
            _fold_norms(block, {"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"})
        if isinstance(self._fc, Head):
            self._fc.fold()


def _fold_norms(module: nn.Module, norms: Mapping[str, str]) -> None:
    for conv, norm in norms.items():
        if hasattr(module, conv):
            setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
            setattr(module, norm, nn.Identity())


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every channel; float32 also under autocast, where the difference of squares would be 0."""
    wide = features.float()
    mean = wide.mean((2, 3))
    variance = (wide * wide).mean((2, 3)) - mean * mean
    return mean, variance.clamp(min=_LEAST_VARIANCE).sqrt()


def _rounded(width: float) -> int:
    """The nearest multiple of 8, never a tenth less."""
    near = max(8, int(width + 4) // 8 * 8)
    return near if near >= 0.9 * width else near + 8
