"""Optimisers, the learning-rate schedule, and the exponential moving average (EMA) of weights."""

import math

import torch
from torch import nn

from training.recipes.recipe import Stage


def optimiser_of(net: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """The optimiser of a stage, over all trainable parameters; no weight decay for norms and biases."""
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
    """The learning rate of a step, from 0: linear warm-up to the peak, then a half cosine to 0, or constant."""
    warm = round(stage.steps * stage.warm_up)
    if step < warm:
        return stage.rate * (step + 1) / warm
    if stage.schedule == "constant":
        return stage.rate
    done = (step - warm) / max(1, stage.steps - warm)
    return stage.rate * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Updates the EMA of weights and norm statistics; the decay is lower in early steps, which improve quickly."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    floats = [
        (kept, new.detach())
        for kept, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True)
        if kept.is_floating_point()
    ]
    torch._foreach_lerp_([kept for kept, _ in floats], [new for _, new in floats], share)


def fast_bf16(device: torch.device) -> bool:
    """Whether a device supports bfloat16 natively; on others autocast is slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))
