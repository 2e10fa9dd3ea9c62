"""Networks by name, their heads and weights, and the larger recipes for a few steps."""

import hashlib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from tests.photo_folders import brand_folders
from training.errors import RecipeError, WeightsError
from training.models.networks import build, empty, head_of, set_training
from training.models.resnet10 import ResNet10
from training.models.served import PIXEL_DEVIATION, PIXEL_MEAN
from training.recipes.files import read
from training.recipes.recipe import Model
from training.runs.start import new_run, train


@pytest.fixture(autouse=True)
def _settings_of_torch() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)


def saved(net: nn.Module, path: Path) -> str:
    torch.save(net.state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("arch", "px"),
    [
        ("resnet10", 64),
        ("resnet10-w16", 64),
        ("resnet18", 64),
        ("mobilenet_v3_small", 64),
        ("squeezenet1_1", 64),
        ("googlenet", 64),
        ("timm/resnet10t", 64),
    ],
)
def test_any_network_gets_a_head_of_the_labels(arch: str, px: int) -> None:
    net = build(Model(arch=arch), 7).train()
    assert net(torch.zeros(2, 3, px, px)).shape == (2, 7)
    again = empty(arch, 7)
    again.load_state_dict(net.state_dict())


def test_a_network_with_other_statistics_sees_what_it_expects() -> None:
    net = build(Model(arch="timm/mobilevitv2_050"), 3)
    seen: list[torch.Tensor] = []
    next(net.children()).register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    pixels = torch.rand(1, 3, 64, 64)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) / 255 for values in (PIXEL_MEAN, PIXEL_DEVIATION))
    net.eval()((pixels - mean) / deviation)
    assert torch.allclose(seen[0], pixels, atol=1e-5)  # this one takes 0..1 as it is


@pytest.mark.parametrize(("arch", "px"), [("googlenet", 64), ("timm/mobilevitv2_050", 64)])
def test_a_librarys_own_weights_and_a_runs_fit_a_network_with_other_statistics(
    tmp_path: Path, arch: str, px: int
) -> None:
    first = build(Model(arch=arch), 3).eval()
    inner = first.get_submodule("net")
    path = tmp_path / "weights.pt"
    images = torch.randn(1, 3, px, px)
    for saved_net in (first, inner):
        saved(saved_net, path)
        again = build(Model(arch=arch, weights=path), 3).eval()
        assert torch.equal(again(images), first(images))


def test_inception_and_googlenet_see_pixels_of_minus_one_to_one() -> None:
    net = build(Model(arch="googlenet"), 3).eval()
    seen: list[torch.Tensor] = []
    net.get_submodule("net").register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    pixels = torch.rand(1, 3, 64, 64)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) / 255 for values in (PIXEL_MEAN, PIXEL_DEVIATION))
    net((pixels - mean) / deviation)
    assert torch.allclose(seen[0], pixels * 2 - 1, atol=1e-5)


@pytest.mark.parametrize("arch", ["resnet19", "resnet10-w6", "timm/no_such_net", "fcn_resnet50", "timm/"])
def test_an_unknown_network_is_refused(arch: str) -> None:
    with pytest.raises(RecipeError):
        build(Model(arch=arch), 2)


def test_head_only_trains_the_head() -> None:
    net = build(Model(arch="resnet10-w8", trainable="head"), 3)
    name, _ = head_of(net)
    trained = [parameter for parameter, value in net.named_parameters() if value.requires_grad]
    assert trained == [f"{name}.weight", f"{name}.bias"]


def test_a_frozen_backbone_is_the_same_after_a_step() -> None:
    net = build(Model(arch="resnet10-w8", trainable="head"), 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    set_training(net)
    net(torch.rand(4, 3, 32, 32)).sum().backward()
    torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1).step()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}


def test_frozen_stages_are_the_same_after_a_step_and_the_others_are_not() -> None:
    net = build(Model(arch="efficientnet_lite0-blocks11", frozen_stages=3), 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    set_training(net)
    net(torch.rand(4, 3, 32, 32)).sum().backward()
    torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1).step()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    trained = {".".join(name.split(".")[1:3]) for name in changed}
    assert trained == {*(f"_blocks.{n}" for n in range(5, 11)), "_fc.weight", "_fc.bias", "_fc.norm"}
    with pytest.raises(RecipeError, match="frozen_stages is for efficientnet_lite, not for resnet10"):
        build(Model(arch="resnet10", frozen_stages=1), 3)


def test_kept_norms_keep_their_statistics_and_are_trained_but_that_of_the_features_learns_its_own() -> None:
    net = build(Model(arch="efficientnet_lite0-blocks11", frozen_stages=3, pretrained="package", keep_norms=True), 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    set_training(net, keep_norms=True)
    net(torch.rand(4, 3, 32, 32)).sum().backward()
    torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1).step()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in changed if "running" in name} == {"net._fc.norm.running_mean", "net._fc.norm.running_var"}
    assert "net._blocks.10._bn1.bias" in changed


def test_norms_are_kept_only_of_weights_to_start_from() -> None:
    with pytest.raises(ValueError, match="set pretrained, or name a file in weights"):
        Model(arch="efficientnet_lite0", keep_norms=True)


def test_depthwise_convolutions_are_trained_in_float32_under_autocast() -> None:
    net = build(Model(arch="efficientnet_lite0-blocks11", frozen_stages=3), 3).train()
    seen: dict[str, torch.dtype] = {}
    for name, module in net.named_modules():
        if name.endswith("_depthwise_conv"):
            module.register_forward_hook(lambda _m, _i, made, name=name: seen.update({name: made.dtype}))
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.rand(2, 3, 32, 32)).sum().backward()
    kinds = [seen[f"net._blocks.{n}._depthwise_conv"] for n in range(11)]
    assert kinds == [torch.bfloat16] * 5 + [torch.float32] * 6


def test_weights_fit_all_but_the_head_and_must_have_their_hash(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    source = ResNet10(11, (8, 16, 32, 64))
    digest = saved(source, path)
    net = build(Model(arch="resnet10-w8", weights=path, weights_sha256=digest), 3)
    assert torch.equal(net.state_dict()["stem.weight"], source.stem.weight)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    with pytest.raises(WeightsError, match="has SHA-256"):
        build(Model(arch="resnet10-w8", weights=path, weights_sha256="0" * 64), 3)
    with pytest.raises(WeightsError, match="does not fit the network"):
        build(Model(arch="resnet10-w16", weights=path), 3)
    with pytest.raises(WeightsError, match="no weights at"):
        build(Model(arch="resnet10-w8", weights=tmp_path / "none.pt"), 3)
    path.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="is not a weights file"):
        build(Model(arch="resnet10-w8", weights=path), 3)


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # `urlopen` keeps the proxies of its first call for the life of the process.
    monkeypatch.setattr(urllib.request, "_opener", None)
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WeightsError, match="--weights FILE --weights-sha256"):
        build(Model(arch="resnet18", pretrained="download"), 3)
    with pytest.raises(WeightsError, match="no weights of resnet10 to download"):
        build(Model(arch="resnet10", pretrained="download"), 3)


@pytest.mark.parametrize("name", ["resnet18-gpu", "resnet50-gpu", "head-only"])
def test_a_large_recipe_runs_for_a_few_steps(name: str, tmp_path: Path) -> None:
    brand_folders(tmp_path / "photos", 6)
    overrides = [f"data.root={tmp_path / 'photos'}", "data.cache=null", "data.split={val: 0.2, test: 0.2}"]
    overrides += ["train.steps=2", "train.batch=4", "train.evaluate_steps=2"]
    overrides.append("data.sources=[{kind: folders, path: .}]")
    overrides.append("train.second.steps=1" if name == "head-only" else "train.second=null")
    run = new_run(read(name, overrides), name, tmp_path)
    result = train(run, Console(quiet=True))
    assert result["steps"] == (3 if name == "head-only" else 2)
    assert run.model_file.is_file()


def test_a_net_too_narrow_for_the_processors_convolutions_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        ResNet10(2, (4, 8, 8, 8))
