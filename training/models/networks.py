"""Networks by name: our own, torchvision's classifiers, and timm's with an extra; their heads and weights.

Every network takes pixels normalised with `served.PIXEL_MEAN` and `PIXEL_DEVIATION`, whatever it was trained with, so
that one serving wrapper fits all.
"""

import hashlib
import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from training.errors import RecipeError, ToolMissing, WeightsError
from training.models import efficientnet_lite
from training.models.efficientnet_lite import EfficientNetLite
from training.models.head import Head
from training.models.packages import package_of, weights_file
from training.models.resnet10 import WIDTHS, ResNet10
from training.models.served import PIXEL_DEVIATION, PIXEL_MEAN
from training.models.small_cnn import TwoLabels
from training.recipes.recipe import Model

_OURS: Final = re.compile(r"resnet10(?:-w(\d+))?")
_LITE: Final = re.compile(
    r"efficientnet_lite([012])(?:-stages([1-7]?)|-blocks([1-9]\d?)(-inner)?)?(?:-mlp([1-9]\d*)(?:x([1-9]\d*))?"
    r"(?:-damage([1-9]\d*))?)?"
)
_SMALL: Final = re.compile(r"small_cnn([1-9]\d*)")
#: Under eight channels, torch 2.14's CPU convolutions in channels-last layout write outside their memory.
_LANES: Final = 8
_TIMM: Final = "timm/"
#: torchvision networks with an auxiliary output in training, which would hide the gain of ours. Their weights come from
#: TensorFlow and want pixels of -1..1; torchvision turns ImageNet's statistics into those (transform_input) by indexing
#: channels, which exports as Gather nodes.
_AUXILIARY: Final = frozenset({"inception_v3", "googlenet"})
_HALVES: Final = (0.5, 0.5, 0.5)


class Renormalised(nn.Module):
    """A network trained with other channel statistics than ImageNet's, behind the conversion to them."""

    scale: Tensor
    shift: Tensor

    def __init__(self, net: nn.Module, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        super().__init__()
        self.net = net
        ours_mean, ours_deviation = (torch.tensor(values) / 255 for values in (PIXEL_MEAN, PIXEL_DEVIATION))
        theirs_mean, theirs_deviation = torch.tensor(mean), torch.tensor(deviation)
        self.register_buffer("scale", (ours_deviation / theirs_deviation).view(1, 3, 1, 1))
        self.register_buffer("shift", ((ours_mean - theirs_mean) / theirs_deviation).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images normalised with ImageNet's statistics, or of the rows of frozen layers (`below`)."""
        return self.net(images if images.ndim == 2 else self._scaled(images))  # type: ignore[no-any-return]

    def below(self, images: Tensor) -> Tensor:
        """The rows of an EfficientNet-Lite's frozen layers, of images normalised with ImageNet's statistics."""
        return cast("EfficientNetLite", self.net).below(self._scaled(images))

    def _scaled(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


def build(model: Model, outputs: int) -> nn.Module:
    """The network of a recipe with a new last layer of `outputs`, and the recipe's weights in the rest.

    Raises:
        RecipeError: No such network, or one without a linear last layer.
        WeightsError: The weights are missing, have another hash, or belong to another network.
        ToolMissing: The network needs timm, or the package of its weights, which is not installed.
    """
    net = _bare(model, outputs)
    if model.weights is not None:
        load_weights(net, model.weights, model.weights_sha256)
    elif model.pretrained == "package":
        package = package_of(model.arch)
        load_weights(net, weights_file(package), package.sha256)
    if model.trainable == "head":
        head = head_of(net)[1]
        kept = {id(parameter) for parameter in head.parameters()}
        for parameter in net.parameters():
            parameter.requires_grad = id(parameter) in kept
    if model.frozen_stages:
        inner = net.net if isinstance(net, Renormalised) else net
        if not isinstance(inner, EfficientNetLite):
            raise RecipeError(f"model.frozen_stages is for efficientnet_lite, not for {model.arch}")
        inner.freeze(model.frozen_stages)
    return net


def set_training(net: nn.Module, *, keep_norms: bool = False) -> None:
    """Training mode; but frozen batch norms keep their statistics, or the layers behind them would see others.

    Args:
        net: The network.
        keep_norms: All norms of channels keep them. That of the head's features, which begins without any, does not.
    """
    net.train()
    for module in net.modules():
        frozen = [not parameter.requires_grad for parameter in module.parameters(recurse=False)]
        kept = keep_norms and isinstance(module, nn.BatchNorm2d)
        if kept or (frozen and all(frozen) and isinstance(module, nn.modules.batchnorm._BatchNorm)):  # noqa: SLF001 - of any size
            module.eval()


def empty(arch: str, outputs: int) -> nn.Module:
    """The network of a name with random weights, to load a run's state into; raises as `build`."""
    return _bare(Model(arch=arch), outputs)


def _bare(model: Model, outputs: int) -> nn.Module:
    ours, lite = _OURS.fullmatch(model.arch), _LITE.fullmatch(model.arch)
    if (ours or lite) and model.pretrained == "download":
        raise WeightsError(
            f"no weights of {model.arch} to download; give your own with model.weights"
            + (", or use a package's with model.pretrained: package" if lite else "")
        )
    if lite:
        stages = 0 if lite[2] is None else int(lite[2] or 7)
        blocks, inner = int(lite[3] or 0), bool(lite[4])
        hidden, members, damage = int(lite[5] or 0), int(lite[6] or 1), int(lite[7] or 0)
        try:
            net = EfficientNetLite(
                int(lite[1]),
                outputs,
                model.dropout,
                stages=stages,
                blocks=blocks,
                inner=inner,
                hidden=hidden,
                members=members,
                damage=damage,
            )
        except ValueError as error:
            raise RecipeError(f"{model.arch}: {error}") from None
        return Renormalised(net, efficientnet_lite.MEAN, efficientnet_lite.DEVIATION)
    if ours:
        width = int(ours[1]) if ours[1] else WIDTHS[0]
        if width % _LANES:
            raise RecipeError(f"{model.arch}: the width must be a multiple of {_LANES}")
        return ResNet10(outputs, (width, width * 2, width * 4, width * 8), model.dropout)
    if small := _SMALL.fullmatch(model.arch):
        return TwoLabels(int(small[1]), outputs)
    if model.arch.startswith(_TIMM):
        return _timm(model, outputs)
    return _torchvision(model, outputs)


def _torchvision(model: Model, outputs: int) -> nn.Module:
    import torchvision  # noqa: PLC0415 - doubles the time to start, which our own networks need not wait for

    if model.arch not in torchvision.models.list_models(module=torchvision.models):
        raise RecipeError(
            f"no network {model.arch}: resnet10, resnet10-w<width>, efficientnet_lite<0..2> with or without "
            "-stages or -blocks<n>[-inner] and -mlp<units>[x<members>][-damage<units>], timm/<name>, or one of "
            "torchvision's"
        )
    download = model.pretrained == "download"
    options: dict[str, Any] = {"init_weights": False} if model.arch in _AUXILIARY and not download else {}
    weights = "DEFAULT" if download else None
    net: Any = _downloaded(lambda: torchvision.models.get_model(model.arch, weights=weights, **options), model)
    if model.arch in _AUXILIARY:
        net.aux_logits = net.transform_input = False
        for name in ("AuxLogits", "aux1", "aux2"):
            if hasattr(net, name):
                setattr(net, name, None)
    _replace_head(net, outputs, model.dropout)
    return Renormalised(net, _HALVES, _HALVES) if model.arch in _AUXILIARY else net


def _timm(model: Model, outputs: int) -> nn.Module:
    timm, name = _timm_package(model.arch), model.arch.removeprefix(_TIMM)
    net = _downloaded(
        lambda: timm.create_model(
            name, pretrained=model.pretrained == "download", num_classes=outputs, drop_rate=model.dropout
        ),
        model,
    )
    config: Any = net.pretrained_cfg
    mean, deviation = tuple(config["mean"]), tuple(config["std"])
    ours = [(value / 255) for value in PIXEL_MEAN]
    same = all(math.isclose(a, b, abs_tol=1e-3) for a, b in zip(ours, mean, strict=True))
    return net if same else Renormalised(net, mean, deviation)


def _timm_package(arch: str) -> Any:  # noqa: ANN401 - an extra without types
    """The package timm, after a check that it has the network.

    Raises:
        ToolMissing: timm is not installed.
        RecipeError: It has no such network.
    """
    try:
        import timm  # noqa: PLC0415 - an extra, loaded where it is asked for
    except ImportError:
        raise ToolMissing(f"{arch} needs timm: pip install 'photo-tagger[timm]'") from None
    if not timm.is_model(arch.removeprefix(_TIMM)):
        raise RecipeError(f"timm has no network {arch.removeprefix(_TIMM)}")
    return timm


def _downloaded(make: Callable[[], nn.Module], model: Model) -> nn.Module:
    """Makes a network, which may download its weights.

    Raises:
        WeightsError: The download failed; says what to do instead.
    """
    try:
        return make()
    except Exception as error:  # each library has its own exceptions where there is no network
        if model.pretrained != "download":
            raise
        raise WeightsError(
            f"the weights of {model.arch} could not be downloaded ({error}); fetch the file elsewhere and give it with "
            "--weights FILE --weights-sha256 HASH"
        ) from None


def head_of(net: nn.Module) -> tuple[str, nn.Module]:
    """Dotted name and module of the head: EfficientNet-Lite's, the last linear layer, or the last 1x1 convolution.

    Raises:
        RecipeError: The network has none of them.
    """
    modules = list(net.named_modules())
    for kind in (Head, nn.Linear, nn.Conv2d):
        found = [(n, m) for n, m in modules if isinstance(m, kind) and getattr(m, "kernel_size", (1, 1)) == (1, 1)]
        if found:
            return found[-1]
    raise RecipeError(f"{type(net).__name__} has no linear last layer")


def trunk(net: nn.Module) -> nn.Module:
    """The network without its last layer, in place: it then returns that layer's input features."""
    _put_head(net, nn.Identity())
    return net


def natural_px(arch: str) -> int:
    """The side of the square that a network was designed for; any ResNet-10 for 96.

    Raises:
        ToolMissing: The network needs timm, which is not installed.
        RecipeError: timm has no such network.
    """
    if _OURS.fullmatch(arch):
        return 96
    if lite := _LITE.fullmatch(arch):
        return efficientnet_lite.SIZES[int(lite[1])][2]
    if not arch.startswith(_TIMM):
        return 299 if arch == "inception_v3" else 224
    timm = _timm_package(arch)
    return int(timm.get_pretrained_cfg(arch.removeprefix(_TIMM)).input_size[-1])


def _put_head(net: nn.Module, head: nn.Module) -> None:
    parent, _, name = head_of(net)[0].rpartition(".")
    setattr(net.get_submodule(parent), name, head)


def _replace_head(net: nn.Module, outputs: int, dropout: float) -> None:
    head = head_of(net)[1]
    fresh: nn.Module
    if isinstance(head, nn.Linear):
        fresh = nn.Linear(head.in_features, outputs)
    else:
        assert isinstance(head, nn.Conv2d)  # noqa: S101 - head_of returns nothing else
        fresh = nn.Conv2d(head.in_channels, outputs, 1)
    _put_head(net, fresh)
    for module in net.modules():
        if isinstance(module, nn.Dropout) and dropout:
            module.p = dropout


def load_weights(net: nn.Module, path: Path, sha256: str | None) -> None:
    """Loads a state dict, or a run's model.pt, into all layers that fit; only the last layer may differ.

    Raises:
        WeightsError: The file is missing, has another hash, is not a state dict, or more than the head does not fit.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"no weights at {path}: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise WeightsError(f"{path} has SHA-256 {found}, not {sha256}")
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - unpickling foreign bytes raises anything
        raise WeightsError(f"{path} is not a weights file: {type(error).__name__}: {error}") from None
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    if isinstance(net, Renormalised) and not any(name.startswith("net.") for name in state):
        net = net.net  # the library's own state dict is of the inner network
    own, head = net.state_dict(), head_of(net)[0]
    fits = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    missing = [name for name in own if name not in fits and not name.startswith(f"{head}.")]
    if missing:
        raise WeightsError(f"{path} does not fit the network: {len(missing)} tensors are missing, such as {missing[0]}")
    net.load_state_dict({**own, **fits})
