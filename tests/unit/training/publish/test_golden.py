"""Golden photos: small, of the model's own size, and with what the published graph answers to what a service sees."""

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from consumer.contract import Geometry
from consumer.imaging.decode import decode
from consumer.imaging.limits import PrepareLimits
from training.models.spec import ModelSpec
from training.publish import golden
from training.publish.bundle import Bundle
from training.publish.parity import Parity
from training.serving.engines import ENGINES
from training.serving.files import FP16_FILE, INT8_FILE

SPEC = ModelSpec("toy", (("score", 1), ("levels", 2)), "levels", ("acme", "no_logo"), 64)


def graph(scale: float = 1.0) -> onnx.ModelProto:
    """Means of the colours: their sum as a score, and two of them; another scale answers otherwise."""
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 64, 64, 3])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n]) for name, n in SPEC.outputs]
    stored = [
        numpy_helper.from_array(np.array([1, 2]), "sides"),
        numpy_helper.from_array(np.full((3, 1), scale / 765, np.float32), "sum"),
        numpy_helper.from_array(np.eye(3, 2, dtype=np.float32) / 255, "two"),
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "sides"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "sum"], ["score"]),
        helper.make_node("MatMul", ["means", "two"], ["levels"]),
    ]
    made = helper.make_graph(nodes, "toy", [images], outputs, stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("size", [32, 96, 256])
def test_eight_different_photos_of_the_models_size_stay_small(size: int) -> None:
    bodies = golden.photos(size)
    assert len(set(bodies.values())) == 8
    assert {Image.open(io.BytesIO(body)).size for body in bodies.values()} == {(size, size)}
    assert sum(map(len, bodies.values())) < 150_000


def test_the_answers_are_those_to_the_pixels_that_a_service_sees(tmp_path: Path) -> None:
    golden.write_photos(64, tmp_path)
    stated = golden.answers(SPEC, Bundle(graph()))
    assert [row["file"] for row in stated["photos"]] == [f"golden/{name}" for name in golden.photos(64)]
    run, geometry = ENGINES["onnxruntime"](graph()), Geometry(64, 64)
    for row in stated["photos"]:
        views = decode((tmp_path / row["file"]).read_bytes(), [geometry], PrepareLimits()).views
        score, levels = run(views[geometry][None])
        assert row["outputs"]["score"] == pytest.approx(score[0], abs=1e-6)
        assert row["outputs"]["levels"] == pytest.approx(levels[0], abs=1e-6)
    assert len({row["outputs"]["score"][0] for row in stated["photos"]}) == 8


def test_each_file_may_differ_by_what_its_precision_allows() -> None:
    assert golden.answers(SPEC, Bundle(graph()))["tolerances"] == {"model.onnx": 0.01, "model.plan": 0.02}
    half = Bundle(graph(), {FP16_FILE: graph()})
    assert golden.answers(SPEC, half)["tolerances"] == {
        "model.onnx": 0.01, "model.fp16.onnx": 0.02, "model.plan": 0.02,
    }  # fmt: skip


def test_where_parity_allows_any_difference_the_measured_one_counts() -> None:
    measured = Parity(INT8_FILE, "openvino on AVX2", 9, 1.0, 0.25, passed=True)
    stated = golden.answers(SPEC, Bundle(graph(), {INT8_FILE: graph()}, (measured,)))["tolerances"]
    assert stated[INT8_FILE] == pytest.approx(0.26)
    here = golden.answers(SPEC, Bundle(graph(), {INT8_FILE: graph(0.5)}))
    largest = max(row["outputs"]["score"][0] for row in here["photos"]) / 2
    assert here["tolerances"][INT8_FILE] == pytest.approx(largest + 0.01, abs=1e-4)
