"""Batches: balanced where asked, equal for equal seeds and steps, with targets that stay distributions."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from torch.nn import functional

from training.data.logos import BRANDS
from training.data.manifest import Manifest
from training.data.photos import NO_LOGO, Photo
from training.recipes.files import read
from training.recipes.recipe import Augment, Loss, Stage
from training.runs.augment import mixed, recoloured, scrambled, views, worn
from training.runs.distributed import Process
from training.runs.feed import Feed, validation_set
from training.runs.objective import level_distribution, objective
from training.runs.optimise import follow, learning_rate
from training.runs.sampling import SamplingOrder

#: Of no photo is known that it is a damaged copy.
PHOTO = torch.zeros(1, dtype=torch.bool)


@settings(max_examples=40)
@given(count=st.integers(1, 50), batch=st.integers(1, 20), seed=st.integers(0, 99))
def test_natural_order_shows_every_photo_once_an_epoch(count: int, batch: int, seed: int) -> None:
    order = SamplingOrder([0] * count, batch, seed)
    seen = [index for step in range(3 * count) for index in order.indices(step)]
    for epoch in range(len(seen) // count):
        assert sorted(seen[epoch * count : (epoch + 1) * count]) == list(range(count))


@settings(max_examples=40)
@given(sizes=st.lists(st.integers(1, 30), min_size=2, max_size=6), seed=st.integers(0, 99))
def test_balanced_order_shows_every_label_equally_often(sizes: list[int], seed: int) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    order = SamplingOrder(labels, 8, seed, balanced=True)
    seen = Counter(labels[index] for step in range(60) for index in order.indices(step))
    assert max(seen.values()) - min(seen.get(label, 0) for label in range(len(sizes))) <= 1


def test_a_reserved_label_has_its_share_of_every_balanced_batch() -> None:
    labels = [0] * 5 + [1] * 5 + [2] * 90
    order = SamplingOrder(labels, 20, 0, balanced=True, reserved=(2, 0.3))
    for step in range(10):
        counts = Counter(labels[index] for index in order.indices(step))
        assert counts[2] == 6
        assert counts[0] == counts[1] == 7


def test_an_order_can_be_entered_at_any_step() -> None:
    labels = [0, 1, 1, 2] * 5
    first, second = (SamplingOrder(labels, 7, 3, balanced=True) for _ in range(2))
    assert first.indices(41) == second.indices(41)
    assert SamplingOrder(labels, 7, 3).indices(41) != SamplingOrder(labels, 7, 4).indices(41)


@pytest.mark.parametrize("augment", [Augment(), Augment(mixup=0.4, cutmix=1.0, flip=True), Augment(scramble=1.0)])
def test_changes_keep_range_and_shape_and_depend_on_their_generator_alone(augment: Augment) -> None:
    stored = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 3, 40, 40), np.uint8))
    targets = functional.one_hot(torch.arange(9) % 3, 3).float()

    def change(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(seed)
        photos = worn(rng, recoloured(rng, views(rng, stored, augment, 32), augment), augment)
        photos, soft = scrambled(rng, photos, targets.clone(), augment.scramble, 2)
        return mixed(rng, photos, soft, augment)

    photos, soft = change(1)
    assert photos.shape == (9, 3, 32, 32)
    assert photos.min() >= 0
    assert photos.max() <= 1
    assert torch.allclose(soft.sum(1), torch.ones(9))
    assert torch.equal(photos, change(1)[0])
    assert not torch.equal(photos, change(2)[0])
    if augment.scramble:
        assert (soft.argmax(1) == 2).all()


def test_no_change_is_no_change() -> None:
    still = Augment(least_zoom=1.0, aspect=0.0, turn_deg=0.0, light=0.0, colour=0.0, blur=0.0, noise=0.0, erase=0.0)
    stored = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    rng = np.random.default_rng(0)
    assert torch.equal(worn(rng, recoloured(rng, views(rng, stored, still, 32), still), still), stored.float() / 255)


def test_a_share_of_the_photos_turns_to_the_grey_of_an_upload_in_grey() -> None:
    photos = torch.from_numpy(np.random.default_rng(0).random((40, 3, 8, 8), np.float32))
    augment = Augment(light=0.0, colour=0.0, grey=0.5)
    made = recoloured(np.random.default_rng(1), photos.clone(), augment)
    grey = (made == made[:, :1]).all(3).all(2).all(1)
    assert 10 <= int(grey.sum()) <= 30
    assert torch.equal(made[~grey], photos[~grey])
    for photo, turned in zip(photos[grey], made[grey], strict=True):
        pixels = (photo * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        expected = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)
        assert np.abs(turned[0].numpy() * 255 - expected).max() <= 1.1


def test_a_stored_square_becomes_what_the_service_would_resize_it_to() -> None:
    still = Augment(least_zoom=1.0, aspect=0.0, turn_deg=0.0)
    stored = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 90, 90), np.uint8))
    seen = views(np.random.default_rng(0), stored, still, 32) * 255
    for photo, made in zip(stored, seen, strict=True):
        served = Image.fromarray(photo.permute(1, 2, 0).numpy()).resize((32, 32), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(served, np.float32) - made.permute(1, 2, 0).numpy()).max() <= 1


def test_upright_cuts_lie_within_the_stored_square_and_differ() -> None:
    columns = torch.arange(200, dtype=torch.uint8).expand(40, 3, 200, 200)
    cuts = views(np.random.default_rng(1), columns, Augment(least_zoom=0.5, aspect=0.0, turn_deg=0.0), 20) * 255
    left, right = cuts[:, 0, 0, 0], cuts[:, 0, 0, -1]
    assert ((left >= 0) & (right < 200)).all()
    widths = (right - left) / 19 * 20
    assert 98 <= widths.min() < 130
    assert 170 < widths.max() <= 201
    assert left.max() > 60


def test_a_scrambled_photo_has_the_same_pixels() -> None:
    photos, targets = torch.rand(2, 3, 32, 32), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    before = photos.clone()
    scrambled(np.random.default_rng(0), photos, targets, 1.0, 1)
    assert torch.equal(photos[0].flatten().sort().values, before[0].flatten().sort().values)
    assert not torch.equal(photos[0], before[0])
    assert torch.equal(photos[1], before[1])


@given(st.floats(1, 5))
def test_a_rating_is_the_mean_of_its_distribution(rating: float) -> None:
    shares = level_distribution(rating, None)
    assert sum(shares) == pytest.approx(1)
    assert sum(level * share for level, share in enumerate(shares, 1)) == pytest.approx(rating)
    assert min(shares) >= 0


def test_a_miss_by_two_levels_costs_more_than_a_miss_by_one() -> None:
    best = torch.eye(5)[[4]]
    costs = [float(objective("quality", Loss())(torch.eye(5)[[level]] * 8, best, PHOTO)) for level in range(5)]
    assert costs == sorted(costs, reverse=True)


def test_copies_teach_what_damage_takes_off_and_only_in_part_the_opinion() -> None:
    made = torch.randn(4, 6, requires_grad=True)
    targets, copies = torch.eye(5)[[0, 1, 3, 4]], torch.tensor([True, True, False, False])

    def gradients(**loss: float) -> tuple[torch.Tensor, torch.Tensor]:
        (found,) = torch.autograd.grad(objective("quality", Loss(**loss))(made, targets, copies), made)
        return found[:, :-1], found[:, -1]

    opinion, lowers = gradients(copies=0.0, undamaged=0.0)
    assert not opinion[:2].any()
    assert not lowers[2:].any()
    assert bool(opinion[2:].abs().sum(1).all())
    assert bool(lowers[:2].all())
    whole, _ = gradients(copies=1.0, undamaged=0.0)
    part, _ = gradients(copies=0.25, undamaged=0.0)
    assert bool(whole[:2].any())
    assert torch.allclose(part[:2], whole[:2] / 4, atol=1e-6)
    _, kept = gradients(copies=0.0, undamaged=3.0)
    assert torch.allclose(kept[2:], 3 * made[2:, -1].detach(), atol=1e-6)  # of a mean of two squares


def test_photos_and_copies_count_alike_however_many_there_are_of_each() -> None:
    made, targets = torch.randn(2, 6), torch.eye(5)[[0, 4]]
    loss, copies = objective("quality", Loss()), torch.tensor([True, False])
    both = loss(made, targets, copies)
    more = loss(*(part[[0, 0, 0, 1]] for part in (made, targets, copies)))
    assert more == pytest.approx(float(both), rel=1e-5)
    alone = [float(loss(made[[row]], targets[[row]], copies[[row]])) for row in (0, 1)]
    assert sum(alone) == pytest.approx(float(both), rel=1e-5)


def test_a_batch_knows_which_photos_are_copies() -> None:
    photos = [
        Photo(f"{n}", f"scene:train/0/{n}", "scenes", rating=4.0, split="train", damage=(n, 2.0) if n % 3 else None)
        for n in range(9)
    ]
    recipe = read("quality-rated", ["train.batch=9", "model.input_px=32", "data.stored_px=32"])
    manifest = Manifest("quality", tuple("12345"), tuple(photos), (), {}, ())
    feed = Feed(recipe, manifest, Process(0, 1, torch.device("cpu")), Console(quiet=True))
    made = feed.batch(0)
    bank = feed._stored(list(range(9))).float() / 255
    for image, copy in zip(made.images, made.copies, strict=True):
        (place,) = [n for n in range(9) if any(torch.equal(image, seen) for seen in (bank[n], bank[n].flip(2)))]
        assert bool(copy) == bool(place % 3)


def test_plain_brand_loss_is_cross_entropy() -> None:
    logits, labels = torch.randn(8, 4), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    ours = objective("brand", Loss(label_smoothing=0.1))(
        logits, functional.one_hot(labels, 4).float(), torch.zeros(8, dtype=torch.bool)
    )
    assert ours == pytest.approx(float(functional.cross_entropy(logits, labels, label_smoothing=0.1)), rel=1e-5)


def test_the_rate_warms_up_to_its_peak_and_ends_near_zero() -> None:
    stage = Stage(steps=100, rate=1.0)
    rates = [learning_rate(step, stage) for step in range(100)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01
    flat = Stage(steps=100, rate=1.0, schedule="constant")
    assert {learning_rate(step, flat) for step in range(10, 100)} == {1.0}


def test_the_average_follows_weights_and_norms() -> None:
    net, average = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    with torch.no_grad():
        net.weight.fill_(3)
        net.running_mean.fill_(1)  # type: ignore[union-attr]
    for step in range(200):
        follow(average, net, 0.9, step)
    assert torch.allclose(average.weight, net.weight, atol=1e-3)
    assert torch.allclose(average.running_mean, torch.ones(3), atol=1e-3)  # type: ignore[arg-type]


def test_batches_made_ahead_by_many_threads_are_those_made_one_by_one() -> None:
    recipe = read("demo-brand", ["train.steps=10", "data.sources.0.scenes=8", "train.batch=8", "data.makers=3"])
    manifest = Manifest("brand", (*BRANDS, NO_LOGO), (), (), {}, ())
    feed = Feed(recipe, manifest, Process(0, 1, torch.device("cpu")), Console(quiet=True))
    ahead = [made.images for made in feed.ahead(2, 8)]
    assert all(torch.equal(images, feed.batch(step)[0]) for step, images in enumerate(ahead, 2))
    assert len(ahead) == 6


def test_marks_are_composed_on_the_photos_without_a_brand_too(tmp_path: Path) -> None:
    flat = Image.new("RGB", (200, 150), (7, 199, 3))
    photos = []
    for index in range(40):
        flat.save(tmp_path / f"{index}.png")
        label = NO_LOGO if index < 30 else "apple"
        photos.append(Photo(f"{index}", str(tmp_path / f"{index}.png"), "s", label=label, split="train"))
    recipe = read("demo-brand", ["data.sources.0.scenes=16", "data.cache=null", "data.stored_px=32", "train.batch=64"])
    composers = []
    for listed in ([], photos, photos[30:]):
        manifest = Manifest("brand", (*BRANDS, NO_LOGO), tuple(listed), (), {}, ())
        composers.append(Feed(recipe, manifest, Process(0, 1, torch.device("cpu")), Console(quiet=True))._composers[0])
    without, both, branded = (composer.bank for composer, _ in composers)
    assert torch.equal(without, branded)
    assert torch.equal(both[:16], without)
    assert len(both) == 32
    assert (both[16:].float().mean((0, 2, 3)) - torch.tensor([7.0, 199.0, 3.0])).abs().max() <= 1


def test_batches_may_be_smaller_than_the_photos_that_val_and_the_service_show(tmp_path: Path) -> None:
    photos = []
    for split in ("train", "val"):
        Image.new("RGB", (200, 150), (7, 199, 3)).save(tmp_path / f"{split}.png")
        photos.append(Photo(split, str(tmp_path / f"{split}.png"), "s", label=NO_LOGO, split=split))
    manifest = Manifest("brand", (*BRANDS, NO_LOGO), tuple(photos), (), {}, ())
    small = ["data.sources.0.scenes=8", "data.cache=null", "data.stored_px=64", "train.batch=10", "model.input_px=48"]
    quiet, process = Console(quiet=True), Process(0, 1, torch.device("cpu"))
    for side, px in ((1.0, 48), (0.85, 40), (0.9, 40), (0.01, 8)):
        recipe = read("demo-brand", [*small, f"train.side={side}"])
        assert Feed(recipe, manifest, process, quiet).batch(0).images.shape == (10, 3, px, px)
        assert validation_set(recipe, manifest, quiet).images.shape == (1, 3, 48, 48)
