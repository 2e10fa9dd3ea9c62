"""The commands as a user runs them, from nothing to files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from training.data.backgrounds import PHOTOS
from training.data.logos import BRANDS, distractor_names
from training.data.photos import TEST, TRAIN
from training.data.samples import _SOURCES, SAMPLES

ROOT = Path(__file__).parents[4]
SHIPPED = ROOT / "consumer" / "embedded" / "samples"


def trainer(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=400)


@pytest.mark.timeout(420)
def test_demo_models_publishes_both_models_from_nothing(tmp_path: Path) -> None:
    done = trainer("demo-models", "--quick", "--repository", str(tmp_path), "--runs", str(tmp_path / "runs"))
    assert done.returncode == 0, done.stderr
    assert "accuracy_always_no_logo" in done.stdout
    assert "no opinions: with ratings of people, photo-trainer train quality-rated" in " ".join(done.stdout.split())
    for model in ("brand_logo", "photo_quality"):
        text = (tmp_path / model / "1" / "MANIFEST.json").read_text()
        assert str(tmp_path) not in text
        manifest = json.loads(text)
        fp32 = [row for row in manifest["parity"] if row["file"] == "model.onnx" and row["engine"] == "onnxruntime"]
        assert fp32[0]["max_abs_difference"] <= 1e-4
        assert manifest["forced"]
        assert (tmp_path / model / "1" / "card.md").read_text().startswith("# Model card")
        assert f"published {model} version 1" in done.stdout


def test_an_interruption_ends_both_models(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.cli", "demo-models", "--quick"]
    started = subprocess.Popen(
        [*command, "--repository", str(tmp_path / "models"), "--runs", str(tmp_path / "runs")],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )  # fmt: skip
    with started:
        assert started.stdout is not None
        assert started.stdout.readline().startswith(b"demo-")
        os.killpg(started.pid, signal.SIGINT)
        assert started.wait(120) != 0
    deadline = time.monotonic() + 60
    while _group_lives(started.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (tmp_path / "models").exists()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    done = trainer("samples", "--out", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_samples_are_photos_of_every_kind_that_uploads_have(made: Path) -> None:
    photos = {path.name: Image.open(path) for path in made.iterdir() if path.suffix in {".jpg", ".png", ".webp"}}
    assert len(photos) == len(SAMPLES) == 28
    assert all(640 <= max(photo.size) <= 1000 for photo in photos.values())
    assert {photo.format for photo in photos.values()} == {"JPEG", "PNG", "WEBP"}
    assert {"L", "RGB", "RGBA"} <= {photo.mode for photo in photos.values()}
    turned = [name for name, photo in photos.items() if ImageOps.exif_transpose(photo).size != photo.size]
    assert turned == ["awning-mcdonalds-portrait.jpg"]
    assert sum(path.stat().st_size for path in made.iterdir()) < 1_600_000


def test_every_sample_has_an_expectation_and_a_source(made: Path) -> None:
    expected = json.loads((made / "expectations.json").read_text())
    sources = (made / "SOURCES.md").read_text()
    assert set(expected) == {sample.file for sample in SAMPLES}
    assert all(file in sources for file in expected)
    assert {entry["quality"] for entry in expected.values()} == {"good", "poor"}
    assert sum(entry["brand"] is not None for entry in expected.values()) == 16


def test_samples_use_held_out_material_only() -> None:
    trained = {name for _, name in PHOTOS[TRAIN]}
    assert not trained & {name for _, name, _ in _SOURCES.values()}
    others = {sample.mark for sample in SAMPLES if sample.mark and sample.mark not in BRANDS}
    assert others <= set(distractor_names(TEST))


def test_the_shipped_samples_are_what_the_command_writes(made: Path) -> None:
    assert (SHIPPED / "expectations.json").read_text() == (made / "expectations.json").read_text()
    assert {path.name for path in made.iterdir()} <= {path.name for path in SHIPPED.iterdir()}
