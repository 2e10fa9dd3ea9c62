"""`photo-trainer engine` as it is typed, on a machine without TensorRT; and that it needs no training library."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from training.engine.library import library_version
from training.errors import ToolMissing

ROOT = Path(__file__).parents[4]
LIGHT = """
import json, sys
import training.cli.main, training.engine.build
from training.engine.source import FP16, source_of
from pathlib import Path
len(source_of(Path("triton_models"), "brand_logo", 2, FP16).graph())
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def has_tensorrt() -> bool:
    try:
        library_version()
    except ToolMissing:
        return False
    return True


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "training.cli", "engine", *words]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(has_tensorrt(), reason="TensorRT is here")
@pytest.mark.parametrize("words", [(), ("--check",)])
def test_without_tensorrt_it_ends_with_what_to_do(words: tuple[str, ...], tmp_path: Path) -> None:
    done = typed("--engines", str(tmp_path / "engines"), *words)
    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr.startswith("photo-trainer: no TensorRT here (libnvinfer.so.11 or libnvinfer.so.10): run this")
    assert list(tmp_path.iterdir()) == []


def test_a_repository_that_is_none_is_said_before_anything_is_looked_for(tmp_path: Path) -> None:
    done = typed("--repository", str(tmp_path), "--engines", str(tmp_path / "engines"))
    assert (done.returncode, done.stdout) == (4, "")
    assert "no model with configs/gpu.pbtxt" in done.stderr


def test_building_needs_none_of_the_libraries_that_training_needs() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "onnx" in loaded
    assert not loaded & {"torch", "torchvision", "onnxruntime", "openvino", "sklearn", "scipy", "skimage", "yaml"}
