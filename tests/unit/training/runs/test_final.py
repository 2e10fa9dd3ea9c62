"""The published weights may be trained on every photo, after all that is chosen and measured is chosen and measured."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from tests.photo_folders import TINY, brand_folders
from training.data.photos import FOREIGN, TRAIN
from training.errors import RecipeError
from training.evaluation.run import CARD, evaluate, write
from training.evaluation.thresholds import Target
from training.models.served import normalise
from training.publish.network import bundle_of
from training.recipes.files import load, parse
from training.recipes.recipe import Model
from training.runs import start as starting
from training.runs.run import BEGAN_WITH, Run, began_with, load_model
from training.runs.start import start, train
from training.serving.engines import onnxruntime_engine

QUIET = Console(quiet=True)


def recipe_of(folder: Path, **training: object) -> dict[str, object]:
    values = load(TINY)
    del values["train"]["second"]
    values["train"] |= {"steps": 6, "best": "last", "final": "all", **training}
    values["data"] |= {"root": str(folder / "own"), "foreign": [str(folder / "else")]}
    return values


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("final")
    brand_folders(folder / "own")
    brand_folders(folder / "else", 2)
    start(parse(recipe_of(folder)), "tiny", folder, QUIET)
    return Run(folder / "tiny")


def test_the_final_weights_see_every_photo_but_foreign_ones(run: Run) -> None:
    assert run.final is not None
    chosen, whole = run.data(), run.final.data()
    assert {photo.id for photo in chosen.photos} == {photo.id for photo in whole.photos}
    assert len(whole.of(FOREIGN)) == len(chosen.of(FOREIGN)) > 0
    assert len(whole.of(TRAIN)) == len(chosen.photos) - len(chosen.of(FOREIGN)) > len(chosen.of(TRAIN))
    assert run.final.result()["steps"] == run.result()["steps"]


def test_the_source_of_weights_is_known_by_way_of_another_run(run: Run, tmp_path: Path) -> None:
    own = Model(arch="efficientnet_lite0-stages", pretrained="package")
    assert began_with(own) == "efficientnet_lite0"
    torch.save({"state_dict": {}, BEGAN_WITH: began_with(own)}, tmp_path / "model.pt")
    assert began_with(Model(weights=tmp_path / "model.pt")) == "efficientnet_lite0"
    (tmp_path / "broken.pt").write_bytes(b"none")
    assert not began_with(Model(weights=tmp_path / "broken.pt"))
    assert run.environment()[BEGAN_WITH] == torch.load(run.model_file, weights_only=True)[BEGAN_WITH] == ""


def test_a_report_measures_the_weights_that_were_chosen_and_a_version_holds_the_final_ones(
    run: Run, tmp_path: Path
) -> None:
    assert run.final is not None
    found = evaluate(run, Target(0.1, 1.0, ordinary_rate=1.0), QUIET)
    photos = normalise(torch.from_numpy(found.splits.test.images).permute(0, 3, 1, 2))
    measured, final = (load_model(one)[0](photos) for one in (run, run.final))
    assert torch.allclose(found.net(photos), measured, atol=0.05)
    assert not torch.allclose(measured, final, atol=0.05)
    (served,) = onnxruntime_engine(bundle_of(found).model)(found.splits.test.images)
    softened = torch.softmax(final / found.evaluation.decision["temperature"], 1).detach().numpy()
    assert np.allclose(served, softened, atol=0.01)
    write(found, tmp_path)
    assert "The published weights were then trained alike on the photos of all splits" in (tmp_path / CARD).read_text()


def test_a_final_training_that_was_cut_off_goes_on_and_the_first_one_is_not_repeated(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run.final is not None
    whole = run.final.result()
    copied = Run(tmp_path / "again")
    copied.path.mkdir()
    for name in ("recipe.yaml", "data.json", "model.pt", "result.json", "environment.json"):
        (copied.path / name).write_bytes((run.path / name).read_bytes())
    monkeypatch.setattr(starting, "assemble", None)
    assert train(copied, QUIET) == run.result()
    assert copied.final is not None
    assert copied.final.finished
    assert copied.final.result()["model_sha256"] == whole["model_sha256"]


@pytest.mark.parametrize("training", [{"best": "best"}, {"patience": 2}])
def test_what_is_chosen_on_val_cannot_be_chosen_on_photos_that_are_trained_on(
    tmp_path: Path, training: dict[str, object]
) -> None:
    with pytest.raises(RecipeError, match="set best: last and patience: 0"):
        parse(recipe_of(tmp_path, **training))
