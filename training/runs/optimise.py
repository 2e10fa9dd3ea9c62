"""Optimisers, learning rates by step, and the moving average of weights."""

import math
from copy import deepcopy

import torch
from torch import nn

from training.recipes.recipe import Stage


def optimiser_of(net: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """The optimiser of a stage, over what the recipe trains; norms and biases do not decay."""
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": stage.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if stage.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=stage.rate, momentum=stage.momentum, nesterov=stage.momentum > 0)
    if stage.optimiser == "rmsprop":
        return torch.optim.RMSprop(groups, lr=stage.rate, momentum=stage.momentum)
    kind = torch.optim.AdamW if stage.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=stage.rate)


def learning_rate(step: int, stage: Stage) -> float:
    """The rate of a step, from 0: linear to the peak over `warm_up` of the steps, then a half cosine to 0 or flat."""
    warm = round(stage.steps * stage.warm_up)
    if step < warm:
        return stage.rate * (step + 1) / warm
    if stage.schedule == "constant":
        return stage.rate
    done = (step - warm) / max(1, stage.steps - warm)
    return stage.rate * 0.5 * (1 + math.cos(math.pi * done))


def average_of(net: nn.Module) -> nn.Module:
    """A copy to average into, in evaluation mode."""
    return deepcopy(net).eval()


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Moves the average's weights and norm statistics towards the net's; early steps count more, since they improve."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    floats = [
        (kept, new.detach())
        for kept, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True)
        if kept.is_floating_point()
    ]
    torch._foreach_lerp_([kept for kept, _ in floats], [new for _, new in floats], share)


def fast_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 natively; elsewhere autocast would only slow it down."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))
