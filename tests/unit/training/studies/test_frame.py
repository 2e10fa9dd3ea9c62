"""What all studies share: settings, the page, the checklist, the command line."""

import io
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from html import unescape
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torchvision
from PIL import Image

from training.errors import RecipeError
from training.evaluation.figures import subplots
from training.models.networks import natural_px
from training.studies import page
from training.studies.fit import model_of
from training.studies.pictures import confusion, png
from training.studies.registry import STUDIES
from training.studies.study import (
    Article,
    Claim,
    Figure,
    Mistake,
    Options,
    Published,
    Result,
    Study,
    Table,
    settings_of,
)

ROOT = Path(__file__).parents[4]


@dataclass(frozen=True, slots=True)
class Settings:
    epochs: int = 20
    rate: float = 0.01
    nets: tuple[str, ...] = ("resnet18",)


def options(folder: Path, **values: object) -> Options:
    return replace(Options(folder, folder / "out", folder / "cache"), **values)  # type: ignore[arg-type]


def study() -> Study:
    return Study(
        name="toy",
        title="A toy <study>",
        article=Article("Toys in a box", "a maker of toys", 2018),
        origin="nobody",
        data="nothing",
        published=(
            Published("accuracy", 0.84, "a readme", "wooden toys there"),
            Published("winner", "trees", "a readme"),
            Published("share", 0.5, "a readme"),
            Published("part", 0.8, "a readme"),
        ),
        mistakes=(Mistake("leak", "tests on training photos", "a test split"),),
        models=(),
        today=("something else",),
        left_open=(Mistake("order", "does not say in which order", "any order"),),
    )


def trainer(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training.cli", "study", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=400)


def script(file: str) -> ModuleType:
    """A script as a module."""
    loader = SourceFileLoader(file.replace("-", "_"), str(ROOT / "scripts" / file))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[loader.name] = module  # where dataclasses look a class's module up
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def study_rows() -> ModuleType:
    """`scripts/study-rows` as a module."""
    return script("study-rows")


def test_settings_are_the_defaults_under_a_quick_run_under_the_users_values(tmp_path: Path) -> None:
    quick = {"epochs": 1, "rate": 0.5}
    assert settings_of(Settings(), quick, options(tmp_path)) == Settings()
    given = options(tmp_path, quick=True, overrides={"rate": 1, "nets": ["a", "b"]})
    assert settings_of(Settings(), quick, given) == Settings(1, 1.0, ("a", "b"))


@pytest.mark.parametrize("overrides", [{"epoch": 3}, {"epochs": "three"}, {"nets": 4}])
def test_a_setting_that_does_not_exist_or_fit_is_refused(tmp_path: Path, overrides: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        settings_of(Settings(), {}, options(tmp_path, overrides=overrides))


def test_a_page_needs_nothing_beside_it(tmp_path: Path) -> None:
    result = Result(
        "forty photos made by code",
        {"Models": Table(("model", "accuracy"), (("trees", "0.4"),))},
        {"Confusion": confusion(np.eye(2, dtype=np.int64), ("a", "b"))},
        {"accuracy": Figure(0.5, 0.4, 0.6), "always no": Figure(0.7)},
        ("a note",),
    )
    files = page.write(study(), options(tmp_path), result)
    assert [path.name for path in files] == ["toy.html", "toy.md", "toy.json"]
    shown, text = files[0].read_text(), files[1].read_text()
    assert "A toy &lt;study&gt;" in shown
    assert 'src="data:image/png;base64,' in shown
    assert "http" not in shown
    assert str(tmp_path) not in shown + text
    for words in (
        "forty photos made by code",
        "0.840",
        "0.500",
        "0.400 to 0.600",
        "not measured",
        "always no",
        "a note",
    ):
        assert words in shown
        assert words in text
    assert json.loads(files[2].read_text())["figures"]["accuracy"] == [0.5, 0.4, 0.6]


def test_a_page_names_the_article_and_says_where_ours_contradicts_it(tmp_path: Path) -> None:
    result = Result(
        "forty photos",
        figures={"accuracy": Figure(0.5, 0.4, 0.6), "share": Figure(0.48, 0.4, 0.6), "part": Figure(0.79975)},
        differs={"accuracy": "plastic toys here", "": "other photos"},
        claims=(Claim("trees win", "bushes win", agrees=False), Claim("many like it", "nobody was asked", agrees=None)),
    )
    rows = {row[0]: dict(zip(page._HEAD, row, strict=True)) for row in page.beside(study(), options(tmp_path), result)}
    assert rows["accuracy"]["ours is"] == "lower"
    assert rows["accuracy"]["what differs"] == "wooden toys there; plastic toys here"
    assert rows["share"]["ours is"] == "equal within its interval"
    assert rows["share"]["what differs"] == "other photos"
    assert rows["part"]["ours is"] == "equal"  # as both are printed
    assert rows["winner"]["ours is"] == ""
    files = page.write(study(), options(tmp_path, pretrained="package"), result)
    for path in files[:2]:
        text = path.read_text()
        for words in ("“Toys in a box”, a maker of toys, 2018", "CONTRADICTS the article", "not tested here"):
            assert words in text
        assert "does not say in which order" in text
        assert "--pretrained package" in text
    told = json.loads(files[2].read_text())
    assert told["claims"] == [["trees win", "bushes win", False], ["many like it", "nobody was asked", None]]
    assert len(told["code_sha256"]) == 64


def test_every_study_names_its_article_and_every_number_has_a_line_on_what_differs(tmp_path: Path) -> None:
    for entry in STUDIES.values():
        assert entry.article.authors
        article = entry.article
        assert entry.name == "feed" or (article.title and article.year)
        # A page says whether title and year were looked up, where, and on which day.
        assert article.looked_up in page.markdown(entry, options(tmp_path, made=True), Result("drawings"))
        assert article.looked_up in unescape(page.html(entry, options(tmp_path, made=True), Result("drawings")))
        assert article.seen.endswith(str(article.year)) if article.year else "found nothing" in article.looked_up
        assert entry.mistakes
        for row in page.beside(entry, options(tmp_path, made=True), Result("drawings")):
            assert row[5], row


def test_a_page_without_photos_says_what_they_would_show(tmp_path: Path) -> None:
    body = confusion(np.eye(2, dtype=np.int64), ("a", "b"))
    result = Result("forty photos", pictures={"Plot": body}, photos={"Good photos": body})
    shown, hidden = (page.html(study(), options(tmp_path, photos=photos), result) for photos in (True, False))
    assert (shown.count("<img"), hidden.count("<img")) == (2, 1)
    assert "would show: Good photos" in hidden
    assert "would show" not in shown
    assert "--no-photos" in hidden


def test_weights_of_a_package_are_taken_where_there_are_any(tmp_path: Path) -> None:
    wanted = ("efficientnet_lite0", "efficientnet_lite1-stages", "resnet50", "resnet10-w8")
    for source, found in (
        ("package", ["package", "package", False, False]),
        ("download", [False, False, "download", False]),
        (False, [False] * 4),
    ):
        made = options(tmp_path, pretrained=source, weights={"vgg16": tmp_path / "vgg16.pt"})
        assert [model_of(arch, made).pretrained for arch in wanted] == found
        assert model_of("vgg16", made).pretrained is False


def test_a_colour_bar_has_no_bands() -> None:
    axes = subplots(4.0, 3.0)
    shown = axes.imshow(np.linspace(-1, 1, 49).reshape(7, 7), cmap="RdBu_r", vmin=-1, vmax=1)
    axes.figure.colorbar(shown)
    image = Image.open(io.BytesIO(png(axes))).convert("RGB")
    assert image.size == (400, 300)
    bar = np.asarray(image)[:, -90:].reshape(-1, 3)  # where the bar is
    assert len(np.unique(bar, axis=0)) > 150


def test_plots_are_small_png_files() -> None:
    counts, names = np.arange(81).reshape(9, 9), [f"row {index}" for index in range(9)]
    body = confusion(counts, names)
    assert Image.open(io.BytesIO(body)).format == "PNG"
    assert len(body) < 15_000
    assert body == confusion(counts, names)


def test_the_worst_result_of_a_test_with_parameters_is_the_rows(tmp_path: Path, study_rows: ModuleType) -> None:
    report = tmp_path / "report.xml"
    cases = "".join(
        f'<testcase file="tests/a.py" name="{name}">{inner}</testcase>'
        for name, inner in (("test_x[1]", ""), ("test_x[2]", "<failure/>"), ("test_x[3]", ""), ("test_y", ""))
    )
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert study_rows.results(report) == {"tests/a.py::test_x": "failed", "tests/a.py::test_y": "passed"}


def test_listing_the_studies_loads_no_heavy_library() -> None:
    code = (
        "import sys; from training.studies.registry import STUDIES; import training.cli;"
        "print([n for n in ('torch', 'sklearn', 'matplotlib', 'scipy', 'onnx') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_row_names_a_study_and_a_test_that_exist(study_rows: ModuleType) -> None:
    rows = study_rows.read(study_rows.PAGE.read_text())
    assert len(rows) == 40
    assert {row.study for row in rows} == set(STUDIES)
    for row in rows:
        assert study_rows.exists(row), row


def test_a_checklist_is_read_as_it_was_written(study_rows: ModuleType) -> None:
    rows = study_rows.read(study_rows.PAGE.read_text())
    assert study_rows.read(study_rows.page(rows)) == rows
    with pytest.raises(SystemExit, match="not a row"):
        study_rows.read("| 9.1 | toy | adds up | no test |")


def test_every_network_that_a_study_names_is_there_or_says_what_is_nearest() -> None:
    for entry in STUDIES.values():
        for model in entry.models:
            if model.arch is None:
                assert "nearest" in model.note
            elif model.arch.startswith("timm/"):
                assert timm.is_model(model.arch.removeprefix("timm/")), model
                assert natural_px(model.arch) == model.input_px
            else:
                assert model.arch in torchvision.models.list_models(module=torchvision.models), model
                assert natural_px(model.arch) == model.input_px


def test_a_study_that_does_not_exist_or_has_no_data_is_refused(tmp_path: Path) -> None:
    assert trainer("no-such-study", "--made").returncode == 3
    assert trainer().returncode == 3
    assert trainer("--list").returncode == 0
    assert trainer("feed").returncode == 3
    assert trainer("feed", "--data", str(tmp_path / "nowhere")).returncode == 4


def test_a_pages_command_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    made = options(tmp_path, overrides={"outside": str(tmp_path), "epochs": 3, "nets": ["a"]})
    text = page.command(study(), made)
    assert str(tmp_path) not in text
    assert """--set 'outside="DIR"' --set epochs=3 --set 'nets=["a"]'""" in text


def test_the_table_of_breaks_lists_every_break_and_who_caught_it() -> None:
    mutants = script("study-mutants")
    found = mutants.breaks()
    text = mutants.PAGE.read_text()
    assert {study for study, _ in found} >= {"grades", "feed"}
    for study, broken in found:
        line = f"| {broken.row} | {study} | {broken.what} | `{broken.module}` | `{broken.check.partition('::')[2]}` |"
        assert line in text.splitlines(), f"run scripts/study-mutants: {line}"
    assert "NOT CAUGHT" not in text
    assert "NOT CAUGHT" in mutants.page(found, set(), {study for study, _ in found})


def test_a_committed_page_was_made_by_the_command_that_makes_pages(tmp_path: Path) -> None:
    pages = script("study-pages")
    for name in pages.settings():
        made = pages.command(name, "DATA", tmp_path)
        told = json.loads((pages.PAGES / f"{name}.json").read_text())
        if "command" not in told:  # older than this script: `--check` names it
            assert name in pages.older()
            continue
        settings = [argument for argument in made[made.index("--about") + 2 :] if argument != "--set"]
        for argument in settings:
            key, _, value = argument.partition("=")
            assert {argument, f'{key}="{value}"'} & set(shlex.split(told["command"])), (
                f"run scripts/study-pages {name}=DIR"
            )
        assert told["data"].startswith(" ".join(made[made.index("--about") + 1].split()))
    assert set(pages.older()) <= set(STUDIES)
