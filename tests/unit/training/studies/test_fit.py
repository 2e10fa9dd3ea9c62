"""The studies' training loop and random changes."""

from collections.abc import Iterable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from training.studies.affine import Affine, changed
from training.studies.fit import Pictures, Plan, binary_cross_entropy, cross_entropy, fit, logits_of, probabilities_of


def pictures(count: int, seed: int) -> Pictures:
    """Dark and bright squares under noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    made = torch.from_numpy(rng.normal(0, 0.5, (count, 3, 8, 8)).astype(np.float32))
    made += torch.from_numpy(labels)[:, None, None, None] - 0.5
    return Pictures(lambda _rng, indices: made[indices], labels)


def plan(epochs: int, **values: object) -> Plan:
    made = Plan(epochs, 8, lambda weights: torch.optim.SGD(weights, 0.1), cross_entropy())
    return replace(made, **values)  # type: ignore[arg-type]


def net(outputs: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, outputs))


SETS = {"train": pictures(33, 1), "val": pictures(20, 2), "test": pictures(20, 3)}
QUIET = Console(quiet=True)


def test_equal_seeds_train_to_equal_weights(tmp_path: Path) -> None:
    one, two = net(), net()
    first = fit(one, SETS, plan(3), tmp_path / "a", QUIET)
    fit(two, SETS, plan(3), tmp_path / "b", QUIET)
    assert first.best.accuracy["test"] > 0.8
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_the_best_epochs_weights_are_kept_alone_and_restored(tmp_path: Path) -> None:
    trained = net()
    fitted = fit(trained, SETS, plan(6), tmp_path, QUIET)
    assert list(tmp_path.iterdir()) == [fitted.file]
    assert fitted.file.name == f"net-{fitted.best.number}.pt"
    assert fitted.best.accuracy["val"] == max(epoch.accuracy["val"] for epoch in fitted.epochs)
    again = net()
    again.load_state_dict(torch.load(fitted.file, weights_only=True))
    assert torch.equal(logits_of(again, SETS["test"]), logits_of(trained, SETS["test"]))


def test_a_frozen_norm_layer_does_not_follow_the_batches(tmp_path: Path) -> None:
    frozen = net()
    for layer in list(frozen)[:2]:
        layer.requires_grad_(requires_grad=False)
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    fit(frozen, SETS, plan(1), tmp_path, QUIET)
    moved = {name for name, value in frozen.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"3.weight", "3.bias"}


def test_one_output_is_a_probability_of_the_second_label(tmp_path: Path) -> None:
    single = net(1)
    chosen = Plan(4, 8, lambda weights: torch.optim.SGD(weights, 0.1), binary_cross_entropy, monitor="loss")
    fitted = fit(single, SETS, chosen, tmp_path, QUIET)
    shares = probabilities_of(logits_of(single, SETS["test"]))
    assert shares.sum(1) == pytest.approx(1)
    assert ((shares[:, 1] > 0.5) == SETS["test"].labels).mean() == pytest.approx(fitted.best.accuracy["test"])


@pytest.mark.parametrize("affine", [Affine(), Affine(flip=True), Affine(rotation_deg=40, shift=0.2, zoom=0.2)])
def test_a_flat_picture_stays_as_it_is_and_no_change_is_none(affine: Affine) -> None:
    rng = np.random.default_rng(0)
    flat = torch.full((4, 3, 16, 16), 0.25)
    assert torch.allclose(changed(rng, flat, affine), flat)
    photos = torch.rand(4, 3, 16, 16)
    made = changed(rng, photos, affine)
    if affine == Affine():
        assert torch.allclose(made, photos, atol=1e-5)
    elif affine.flip:
        assert all(
            torch.allclose(a, b, atol=1e-5) or torch.allclose(a, b.flip(2), atol=1e-5)
            for a, b in zip(made, photos, strict=True)
        )
    else:
        assert not torch.allclose(made, photos, atol=0.1)


def test_what_a_shifted_picture_lacks_is_its_nearest_pixel() -> None:
    photos = torch.zeros(64, 3, 16, 16)
    photos[..., 0] = 1
    made = changed(np.random.default_rng(1), photos, Affine(shift=0.5))
    widths = (made[:, 0, 0] > 0.99).sum(1)
    assert set(widths.tolist()) >= {0, 4}
    assert int(widths.max()) <= 9


class Stop(Exception):
    """Ends a training between two batches."""


def stopping(after: int) -> Pictures:
    """The pictures to train on, until so many batches were seen."""
    left = iter(range(after))

    def pick(rng: np.random.Generator, indices: np.ndarray) -> torch.Tensor:
        if len(indices) in {8, 9} and next(left, None) is None:
            raise Stop
        return SETS["train"].pick(rng, indices)

    return Pictures(pick, SETS["train"].labels)


def with_dropout() -> nn.Module:
    return nn.Sequential(net(16), nn.Dropout(0.5), nn.Linear(16, 2))


@pytest.mark.parametrize("batches", [5, 11, 18])
def test_a_training_that_was_stopped_ends_as_if_it_had_not_been(tmp_path: Path, batches: int) -> None:
    def momentum(weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(weights, 0.1, momentum=0.9)

    chosen = plan(6, optimiser=momentum, unfinished=tmp_path / "unfinished")
    whole, stopped, resumed = with_dropout(), with_dropout(), with_dropout()
    expected = fit(whole, SETS, replace(chosen, unfinished=None), tmp_path / "whole", QUIET)
    with pytest.raises(Stop):
        fit(stopped, {**SETS, "train": stopping(batches)}, chosen, tmp_path / "a", QUIET)
    spoken = Console(record=True, quiet=False, file=StringIO())
    fitted = fit(resumed, SETS, chosen, tmp_path / "b", spoken)
    assert f"goes on after epoch {batches // 4}" in spoken.export_text()
    assert [replace(epoch, seconds=0) for epoch in fitted.epochs] == [
        replace(epoch, seconds=0) for epoch in expected.epochs
    ]
    assert fitted.best.number == expected.best.number
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("what", ["rate", "epochs", "labels", "pixels", "weights", "seed"])
def test_another_training_starts_anew(tmp_path: Path, what: str) -> None:
    chosen, sets, trained = plan(2, unfinished=tmp_path / "unfinished"), dict(SETS), net()
    fit(net(), SETS, chosen, tmp_path, QUIET)
    if what == "rate":
        chosen = replace(chosen, optimiser=lambda weights: torch.optim.SGD(weights, 0.2))
    elif what == "labels":
        sets["train"] = Pictures(SETS["train"].pick, 1 - SETS["train"].labels)
    elif what == "pixels":
        sets["val"] = pictures(20, 9)
    elif what == "weights":
        nn.init.zeros_(next(trained.parameters()))
    else:
        chosen = replace(chosen, epochs=3) if what == "epochs" else replace(chosen, seed=3)
    spoken = Console(record=True, file=StringIO())
    fit(trained, sets, chosen, tmp_path, spoken)
    assert "goes on" not in spoken.export_text()
    assert len(list((tmp_path / "unfinished").iterdir())) == 2
