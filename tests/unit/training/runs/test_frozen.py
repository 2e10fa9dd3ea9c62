"""A head alone is trained on features that are computed once, and is saved with the layers below it."""

from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.trained_runs import ended_again, same_weights, weights_of
from training.models.networks import build, trunk
from training.models.served import deployable, normalised
from training.recipes.files import read
from training.recipes.recipe import Model, Recipe
from training.runs.distributed import Process
from training.runs.feed import Batch, Feed, validation_set
from training.runs.frozen import FeatureFeed, Frozen
from training.runs.run import Run, load_model
from training.runs.start import new_run, train
from training.runs.validate import scores

QUIET = Console(quiet=True)
pytestmark = pytest.mark.usefixtures("torch_settings")
HEAD = ("model.trainable=head", "model.arch=efficientnet_lite0-stages", "model.pretrained=package", "train.views=2")


def recipe_of(folder: Path, *overrides: str) -> Recipe:
    return read(str(folder / "tiny.yaml"), [f"data.root={folder / 'photos'}", *HEAD, *overrides])


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    made = new_run(recipe_of(folder), "head", folder)
    train(made, QUIET)
    return made


def test_the_saved_network_scores_as_its_head_did_on_features(run: Run) -> None:
    net, _ = load_model(run)
    photos = validation_set(run.recipe(), run.data(), QUIET)
    with torch.no_grad():
        logits = net(normalised(photos.images, torch.device("cpu")))
    assert scores("brand", logits, photos.targets).values == run.result()["val"]
    assert run.result()["val"]["accuracy"] > 0.8


def test_only_the_head_is_another_after_training(run: Run) -> None:
    start = build(Model(arch="efficientnet_lite0-stages", pretrained="package"), 3).state_dict()
    state = weights_of(run)
    assert state.keys() == start.keys()
    changed = {name for name, value in state.items() if not torch.equal(value, start[name])}
    assert {"net._fc.weight", "net._fc.bias", "net._fc.norm.running_mean", "net._fc.norm.running_var"} <= changed
    assert all(name.startswith("net._fc.") for name in changed)


def test_members_of_a_head_learn_each_photos_own_label(folder: Path) -> None:
    made = new_run(recipe_of(folder, "model.arch=efficientnet_lite0-blocks2-inner-mlp8x3"), "members", folder)
    assert train(made, QUIET)["val"]["accuracy"] > 0.8


def test_a_run_that_goes_on_from_its_checkpoint_ends_with_equal_weights(run: Run) -> None:
    before = weights_of(run)
    assert ended_again(run) > 0
    assert same_weights(run, before)


class Counting(Feed):
    """A feed that notes which steps are asked for."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self.made: list[int] = []

    def batch(self, step: int) -> Batch:
        self.made.append(step)
        return super().batch(step)


def test_photos_are_looked_at_once_a_view_and_come_again_in_other_batches(folder: Path, run: Run) -> None:
    recipe = recipe_of(folder, "model.arch=resnet10-w8", "model.pretrained=false", "train.second=null")
    feed = Counting(recipe, run.data(), Process(0, 1, torch.device("cpu")), QUIET)
    frozen = Frozen.of(build(recipe.model, 3), bf16=False)
    assert frozen is not None
    own = feed.steps_of_round
    assert own is not None
    batches = list(FeatureFeed(feed, frozen, recipe).ahead(0, 24))
    distinct = len(feed.made)
    assert 2 * own <= distinct < 2 * own + 1
    assert sorted(feed.made) == list(range(distinct))
    photos = [
        {(*row.tolist(), *target.tolist(), bool(copy)) for row, target, copy in zip(*batch, strict=True)}
        for batch in batches
    ]
    rounds = [photos[start : start + distinct] for start in range(0, 24 - distinct + 1, distinct)]
    assert len(rounds) > 1
    assert all(set.union(*other) == set.union(*rounds[0]) for other in rounds)
    assert len({frozenset(batch) for batch in photos}) == 24
    late = FeatureFeed(feed, frozen, recipe).batch(20)  # as of a run that is resumed there
    assert all(torch.equal(part, other) for part, other in zip(late, batches[20], strict=True))


def test_a_head_that_is_a_convolution_is_trained_with_the_whole_network() -> None:
    assert Frozen.of(build(Model(arch="squeezenet1_1"), 3), bf16=False) is None


@pytest.mark.parametrize("arch", ["resnet10-w8", "resnet18", "mobilenet_v3_small", "googlenet", "efficientnet_lite0"])
def test_head_of_the_features_is_the_network_as_it_is_served(arch: str) -> None:
    torch.manual_seed(1)
    net = build(Model(arch=arch), 3).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        served, seen = deployable(net), normalised(images, torch.device("cpu"))
        whole = served(seen)
        frozen = Frozen.of(net, bf16=False)
        assert frozen is not None
        assert torch.allclose(frozen.features(images), trunk(served)(seen), atol=1e-5)
        assert torch.allclose(
            frozen.head(frozen.features(images)), whole, atol=5e-3
        )  # its own weights are rounded too when it is served
