"""scripts/gpu-check, as far as a machine without a GPU can tell."""

import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from benchmarks.gpu.__main__ import markdown
from benchmarks.gpu.rates import Row, measured
from benchmarks.gpu.torch_graph import TorchGraph
from training.engine.accuracy import golden_images
from training.engine.gpu import this_gpu
from training.engine.source import FP16, source_of
from training.errors import ToolMissing

ROOT = Path(__file__).parents[3]
REPOSITORY = ROOT / "triton_models"


def has_gpu() -> bool:
    try:
        this_gpu()
    except ToolMissing:
        return False
    return True


@pytest.mark.skipif(has_gpu(), reason="a GPU is here: run scripts/gpu-check")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    argv = [ROOT / "scripts/gpu-check", "--output", tmp_path]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr.startswith("gpu-check: no NVIDIA GPU here")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["brand_logo", "photo_quality"])
def test_torch_computes_a_published_graph_as_onnx_runtime_does(model: str) -> None:
    source = source_of(REPOSITORY, model, 2, FP16)
    body, images = (source.folder / "model.onnx").read_bytes(), golden_images(source)[:2]
    session = onnxruntime.InferenceSession(body, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"images": images})
    found = TorchGraph(body, "cpu")(images)
    assert list(found) == [output.name for output in session.get_outputs()]
    for want, got in zip(expected, found.values(), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_an_operator_that_it_does_not_know_is_named() -> None:
    value = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Erf", ["images"], ["out"])], "x", [value], [value])
    with pytest.raises(ValueError, match="does not know: Erf"):
        TorchGraph(helper.make_model(graph).SerializeToString(), "cpu")


def test_a_row_holds_rate_and_difference_and_a_refusal_in_their_place() -> None:
    source = source_of(REPOSITORY, "brand_logo", 2, FP16)
    rows = {image.tobytes(): photo["outputs"]["brand_probs"] for image, photo in zip(
        golden_images(source), source.manifest["golden"]["photos"], strict=True)}  # fmt: skip
    blank = np.zeros(11, np.float32)

    def answer(images: np.ndarray) -> dict[str, np.ndarray]:
        return {"brand_probs": np.array([rows.get(image.tobytes(), blank) for image in images], np.float32)}

    good = measured(source, "a table", answer, 2, 0.01, lambda _images: (lambda: None, lambda: None))
    assert good.photos_per_s > 0
    assert good.computed_per_s is not None
    assert good.computed_per_s > good.photos_per_s
    assert good.refused == ""
    bad = measured(source, "half", lambda images: {"brand_probs": answer(images)["brand_probs"] / 2}, 2, 0.01)
    assert (bad.largest_difference, bad.computed_per_s) == (None, None)
    assert markdown([good, bad]).splitlines()[3].endswith(f"| {bad.refused} |")


def test_a_row_is_a_line_of_a_table() -> None:
    row = Row("m", 1, "e", 8, 1234.5, None, 0.001, 0.02)
    assert "| m 1 | e | 8 | 1,234 |  | 1.0e-03 |" in markdown([row])
