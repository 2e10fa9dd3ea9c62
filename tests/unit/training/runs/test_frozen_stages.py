"""Frozen stages put photos through beside the training thread; the rest of the network takes what they made."""

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from tests.trained_runs import ended_again, same_weights, weights_of
from training.models.efficientnet_lite import EfficientNetLite
from training.models.networks import Renormalised, build
from training.models.served import normalised
from training.recipes.files import read
from training.recipes.recipe import Model, Recipe
from training.runs import frozen
from training.runs.frozen import FrozenStages
from training.runs.start import new_run, train

QUIET = Console(quiet=True)
pytestmark = pytest.mark.usefixtures("torch_settings")
STAGES = (
    "model.arch=efficientnet_lite0-blocks7",
    "model.pretrained=package",
    "model.frozen_stages=2",
    "train.second=null",
    "train.steps=2",
)


def recipe_of(folder: Path, *overrides: str) -> Recipe:
    return read(str(folder / "tiny.yaml"), [f"data.root={folder / 'photos'}", *STAGES, *overrides])


@pytest.mark.parametrize("arch", ["", "-stages", "-stages4", "-blocks9", "-blocks9-inner"])
@pytest.mark.parametrize("stages", [1, 3, 7])
def test_rows_of_frozen_stages_give_the_logits_of_the_photos(arch: str, stages: int) -> None:
    torch.manual_seed(1)
    net = build(Model(arch=f"efficientnet_lite0{arch}", frozen_stages=stages, pretrained="package"), 3).eval()
    assert isinstance(net, Renormalised)
    pixels = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    photos = normalised(pixels, torch.device("cpu"))
    expected = net(photos)
    assert torch.allclose(net(net.below(photos)), expected, rtol=1e-3, atol=1e-4)
    made = FrozenStages.of(net, bf16=False)
    assert made is not None
    rows = made.features(pixels)
    assert not rows.requires_grad
    with torch.no_grad():  # its weights are rounded to those that are served
        assert float((net(rows) - expected).norm()) <= 0.02 * float(expected.norm())


def test_other_networks_have_none() -> None:
    for arch in ("resnet10-w8", "efficientnet_lite0-blocks2"):
        assert FrozenStages.of(build(Model(arch=arch), 3), bf16=False) is None
    net = build(Model(arch="efficientnet_lite0-blocks7", frozen_stages=1), 3)
    assert FrozenStages.of(net.to("meta"), bf16=False) is None  # on another device


def test_a_step_puts_photos_through_the_layers_that_are_trained_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: list[int] = []
    begun = EfficientNetLite._begun

    def counted(self: EfficientNetLite, pixels: Tensor) -> Any:
        if self.training:
            whole.append(len(pixels))
        return begun(self, pixels)

    monkeypatch.setattr(EfficientNetLite, "_begun", counted)
    runs = {}
    for name, of in (("apart", FrozenStages.of), ("at once", lambda _net, **_bf16: None)):
        monkeypatch.setattr(frozen.FrozenStages, "of", of)
        # in float32 on every machine: bfloat16 rounds the two apart
        runs[name] = new_run(recipe_of(folder, "train.bf16=off"), name.replace(" ", "-"), folder)
        train(runs[name], QUIET)
        assert bool(whole) == (name == "at once")
    apart, once = ([line["loss"] for line in run.metrics() if "loss" in line][-1] for run in runs.values())
    assert apart == pytest.approx(once, rel=0.02)
    start, end = build(recipe_of(folder).model, 3).state_dict(), weights_of(runs["apart"])
    changed = {name for name, value in end.items() if not torch.equal(value, start[name])}
    trained = {name.split(".")[2] for name in changed if name.startswith("net._blocks.")}
    assert trained == {"3", "4", "5", "6"}  # the first two stages have one block and two
    assert not {name for name in changed if name.startswith(("net._conv_stem", "net._bn0"))}


def test_a_run_that_goes_on_from_its_checkpoint_ends_with_equal_weights(folder: Path) -> None:
    run = new_run(recipe_of(folder, "train.steps=6", "train.checkpoint_steps=4"), "resumed", folder)
    train(run, QUIET)
    before = weights_of(run)
    assert ended_again(run) == 4
    assert same_weights(run, before)
