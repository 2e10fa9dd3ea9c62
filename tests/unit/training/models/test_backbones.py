"""Backbones whose weights a package carries: found without importing it, checked, and equal to timm's networks."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from training.errors import DataError, RecipeError, ToolMissing, WeightsError
from training.models.head import Head
from training.models.imagenet import accuracy, labelled
from training.models.networks import build, natural_px, trunk
from training.models.packages import PACKAGES, Package, weights_file
from training.models.served import PIXEL_DEVIATION, PIXEL_MEAN
from training.recipes.recipe import Model

LITE0 = PACKAGES["efficientnet_lite0"]


@pytest.mark.parametrize("arch", sorted(PACKAGES))
def test_every_tensor_of_the_file_is_in_the_network_which_answers_as_timms(arch: str) -> None:
    timm = pytest.importorskip("timm")
    file = torch.load(weights_file(PACKAGES[arch]), weights_only=True)
    net = build(Model(arch=arch, pretrained="package"), 1000).eval().get_submodule("net")
    own = {name: value for name, value in net.state_dict().items() if not name.startswith("_fc.norm.")}
    assert own.keys() == file.keys()
    assert all(torch.equal(value, file[name]) for name, value in own.items())
    theirs = timm.create_model(f"tf_{arch}").eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), own.values(), strict=True)))
    pixels = torch.randn(1, 3, 68, 51)
    with torch.no_grad():
        assert torch.allclose(net(pixels), theirs(pixels), atol=2e-3)


def test_pixels_are_scaled_as_the_weights_want_them() -> None:
    net = build(Model(arch="efficientnet_lite0"), 3).eval()
    seen: list[torch.Tensor] = []
    net.get_submodule("net").register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    pixels = torch.randint(0, 256, (1, 3, 32, 32)).float()
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_DEVIATION))
    net((pixels - mean) / deviation)
    assert torch.allclose(seen[0], (pixels - 127) / 128, atol=1e-5)


def test_the_head_with_stages_sees_mean_and_deviation_of_all_seven() -> None:
    net = build(Model(arch="efficientnet_lite0-stages", pretrained="package"), 5).eval()
    head = net.get_submodule("net._fc")
    seen: list[torch.Tensor] = []
    head.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    stages: list[torch.Tensor] = []
    inner = net.get_submodule("net._blocks")
    for end in (0, 2, 4, 7, 10, 14, 15):
        inner.get_submodule(str(end)).register_forward_hook(lambda _module, _inputs, made: stages.append(made))
    with torch.no_grad():
        net(torch.randn(2, 3, 64, 64))
    moments = [moment for made in stages for moment in (made.mean((2, 3)), made.std((2, 3), correction=0))]
    assert len(moments) == 14
    assert torch.allclose(seen[0][:, 1280:], torch.cat(moments, 1), atol=2e-3)


def test_the_first_blocks_alone_see_what_they_see_in_the_whole_network() -> None:
    pixels, seen = torch.randn(2, 3, 64, 64), []
    stems: list[torch.Tensor] = []
    for arch in ("efficientnet_lite0-stages", "efficientnet_lite0-blocks3-mlp8"):
        below = trunk(build(Model(arch=arch, pretrained="package"), 5)).eval()
        below.get_submodule("net._blocks.0").register_forward_pre_hook(lambda _module, inputs: stems.append(inputs[0]))
        with torch.no_grad():
            seen.append(below(pixels))
    whole, first = seen
    stem, block0, _, block2 = (2 * channels for channels in (32, 16, 24, 24))
    assert first.shape == (2, stem + block0 + 2 * block2)
    assert torch.allclose(first[:, : stem // 2], stems[-1].mean((2, 3)))
    assert torch.allclose(first[:, stem // 2 : stem], stems[-1].std((2, 3), correction=0), atol=1e-3)
    assert torch.equal(first[:, stem : stem + block0], whole[:, 1280 : 1280 + block0])
    assert torch.equal(first[:, -block2:], whole[:, 1280 + block0 : 1280 + block0 + block2])


def test_inner_shows_the_head_what_every_block_projects() -> None:
    pixels, projected = torch.randn(2, 3, 64, 64), []
    plain, both = (
        trunk(build(Model(arch=f"efficientnet_lite0-blocks3{inner}-mlp8", pretrained="package"), 5)).eval()
        for inner in ("", "-inner")
    )
    for number in range(3):
        project = both.get_submodule(f"net._blocks.{number}._project_conv")
        project.register_forward_pre_hook(lambda _module, inputs: projected.append(inputs[0]))
    with torch.no_grad():
        outputs, seen = plain(pixels), both(pixels)
    inside = [made.mean((2, 3)) for made in projected]
    assert [part.shape[1] for part in inside] == [32, 96, 144]
    at = 2 * 32
    parts, ends = [outputs[:, :at]], (16, 24, 24)
    for part, width in zip(inside, ends, strict=True):
        parts += [part, outputs[:, at : at + 2 * width]]
        at += 2 * width
    assert torch.allclose(seen, torch.cat(parts, 1), atol=2e-3)


def test_the_members_of_a_head_answer_alone_in_training_and_their_mean_is_served() -> None:
    torch.manual_seed(0)
    head, seen = Head(6, 3, hidden=4, members=5), torch.randn(7, 6)
    head.train().norm.eval()
    alone = head(seen).view(7, 5, 3)
    head.eval()
    assert torch.allclose(head(seen), alone.mean(1), atol=1e-6)
    before = alone[:, 1:].clone()
    with torch.no_grad():
        head.hidden.weight[:4] += 1  # type: ignore[union-attr]  # of the first member
        head.train().norm.eval()
        after = head(seen).view(7, 5, 3)
    assert torch.equal(after[:, 1:], before)
    assert not torch.allclose(after[:, 0], alone[:, 0])


def test_what_a_head_takes_off_for_damage_is_told_in_training_and_lowers_what_is_served() -> None:
    torch.manual_seed(0)
    head, seen = Head(6, 5, hidden=4, members=3, damage=2), torch.randn(7, 6)
    head.train().norm.eval()
    made = head(seen)
    assert made.shape == (7 * 3, 5 + 1)
    opinion, lowers = made[:, :-1].view(7, 3, 5).mean(1), made.view(7, 3, 6)[:, 0, -1:]
    assert torch.equal(made[:, -1].view(7, 3), lowers.expand(7, 3))  # the same for every member
    head.eval()
    expected = opinion - lowers * torch.tensor([0.0, 1, 2, 3, 4])
    assert torch.allclose(head(seen), expected, atol=1e-6)
    with torch.no_grad():
        head.lowers.bias += 1  # type: ignore[union-attr]
    levels, before = torch.arange(5.0), head(seen)
    assert bool((torch.softmax(before, 1) @ levels < torch.softmax(expected, 1) @ levels).all())
    head.fold()
    assert head.lowers is None
    assert torch.allclose(head(seen), before, atol=1e-5)


@pytest.mark.parametrize(
    "arch",
    [
        "efficientnet_lite0-stages8",
        "efficientnet_lite0-stages-inner",
        "efficientnet_lite0-mlp0",
        "efficientnet_lite0-blocks3-damage8",
        "efficientnet_lite3",
    ],
)
def test_a_network_that_lite_is_not_is_refused(arch: str) -> None:
    with pytest.raises(RecipeError, match=r"-blocks<n>\[-inner\] and -mlp<units>\[x<members>\]\[-damage<units>\]"):
        build(Model(arch=arch), 5)


def test_more_blocks_than_there_are_are_refused() -> None:
    build(Model(arch="efficientnet_lite0-blocks16"), 5)
    with pytest.raises(RecipeError, match="EfficientNet-Lite0 has 16 blocks, not 17"):
        build(Model(arch="efficientnet_lite0-blocks17"), 5)


def test_a_constant_photo_has_finite_gradients() -> None:
    net = build(Model(arch="efficientnet_lite0-stages"), 5).train()
    net(torch.zeros(2, 3, 32, 32)).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)


def test_a_package_is_read_and_never_imported() -> None:
    code = (
        "import sys; from training.models.networks import build; from training.recipes.recipe import Model\n"
        "build(Model(arch='efficientnet_lite0', pretrained='package'), 2)\n"
        "assert not [name for name in sys.modules if name.endswith('pytorch_model')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def made_package(folder: Path, content: bytes, *, listed: bool = True) -> Package:
    """A package with a file of weights, installed into a folder."""
    (folder / "made").mkdir(parents=True)
    (folder / "made" / "made.pth").write_bytes(content)
    (folder / "made_weights-1.dist-info").mkdir()
    (folder / "made_weights-1.dist-info" / "METADATA").write_text("Name: made-weights\nVersion: 1\n")
    record = "made/made.pth,,\n" if listed else "made/__init__.py,,\n"
    (folder / "made_weights-1.dist-info" / "RECORD").write_text(record)
    return replace(LITE0, name="made-weights", version="1", file="made.pth")


def test_what_is_wrong_with_a_package_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(arch="efficientnet_lite0", pretrained="package")
    with pytest.raises(WeightsError, match="only of efficientnet_lite0, "):
        build(Model(arch="resnet18", pretrained="package"), 2)
    with pytest.raises(WeightsError, match=r"model\.pretrained: package"):
        build(Model(arch="efficientnet_lite0", pretrained="download"), 2)
    monkeypatch.setitem(PACKAGES, LITE0.arch, replace(LITE0, name="no-such-package-anywhere"))
    with pytest.raises(ToolMissing, match="no-such-package-anywhere is not installed: pip install"):
        build(model, 2)
    for number, (content, listed, message) in enumerate(
        [
            (b"tampered with", True, "has SHA-256"),
            (b"", True, "has SHA-256"),
            (b"unlisted", False, "without made.pth"),
        ]
    ):
        place = tmp_path / str(number)
        package = made_package(place, content, listed=listed)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(place)
            patch.setitem(PACKAGES, LITE0.arch, package)
            with pytest.raises(WeightsError, match=message):
                build(model, 2)
            (place / "made" / "made.pth").unlink()
            with pytest.raises(WeightsError):  # listed, and deleted since
                build(model, 2)


def test_a_file_that_the_user_gives_is_used_instead_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PACKAGES, LITE0.arch, replace(LITE0, name="no-such-package-anywhere"))
    first, path = build(Model(arch="efficientnet_lite0"), 2), tmp_path / "mine.pt"
    torch.save(first.state_dict(), path)
    again = build(Model(arch="efficientnet_lite0", pretrained="package", weights=path), 2)
    assert torch.equal(again.get_parameter("net._conv_stem.weight"), first.get_parameter("net._conv_stem.weight"))


def test_a_network_is_as_large_as_it_was_designed() -> None:
    assert [natural_px(arch) for arch in PACKAGES] == [224, 240, 260]
    assert natural_px("efficientnet_lite2-stages") == 260


def photo(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 60, 3), grey, np.uint8)).save(path)


def test_a_photos_class_is_its_nearest_folder_that_is_named_like_one(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    names = (
        "Goldfish",
        "apple/granny-smith/close",
        "n01440764_tench",
        "n01443537",
        "CARDIGAN",
        "tench, Tinca tinca",
        "cat",
    )
    for name in names:
        photo(tmp_path / name / "one.png", 9)
    found = labelled(tmp_path)
    classes = {path.relative_to(tmp_path).parent.as_posix(): indices for path, indices in found.photos}
    assert classes == {
        "Goldfish": {1},
        "apple/granny-smith/close": {948},
        "n01440764_tench": {0},
        "n01443537": {1},
        "CARDIGAN": {264, 474},  # the dog and the jacket
        "tench, Tinca tinca": {0},
    }
    assert found.others == {"cat": 1}
    with pytest.raises(DataError, match=r"no folder .* is named like a class of ImageNet"):
        labelled(tmp_path / "cat")
    with pytest.raises(DataError, match="no folder"):
        labelled(tmp_path / "nowhere")


class Brightness(nn.Module):
    """Answers class 1 for bright photos, class 0 for dark ones."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images.mean((1, 2, 3), keepdim=False)
        return torch.stack([-bright, bright], 1)


def test_accuracy_is_the_share_of_readable_photos_with_the_right_best_answer(tmp_path: Path) -> None:
    for name, grey in (("tench/a.png", 0), ("tench/b.png", 255), ("goldfish/c.png", 255), ("goldfish/d.png", 250)):
        photo(tmp_path / name, grey)
    (tmp_path / "goldfish" / "e.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    found = accuracy(Brightness(), 32, labelled(tmp_path).photos)
    assert (found.photos, found.right, found.top1) == (4, 3, 0.75)
    assert len(found.unreadable) == 1
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="none of 1 photos can be read"):
        accuracy(Brightness(), 32, labelled(tmp_path).photos)
