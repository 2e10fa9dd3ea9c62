"""Symmetric int8, which is the only one that TensorRT takes, from graphs that are published for CPUs."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.unit.training.engine.shop import MODEL, SHIPPED
from training.engine.accuracy import check_answers
from training.engine.source import INT8, in_int8, source_of
from training.engine.symmetric import symmetric, zero_points
from training.errors import DataError

STEP = 0.1


def run(model: onnx.ModelProto, images: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def quantised(zero: np.generic | None, steps: list[float] | None = None) -> onnx.ModelProto:
    """Numbers to int8 or uint8 and back; `steps` instead of a stored scale makes it a result of the graph."""
    names = ["images", "scale", *([] if zero is None else ["zero"])]
    nodes = [
        helper.make_node("QuantizeLinear", names, ["small"]),
        helper.make_node("DequantizeLinear", ["small", *names[1:]], ["out"]),
    ]
    stored = [numpy_helper.from_array(np.array(STEP, np.float32), "step" if steps else "scale")]
    if steps:
        nodes.insert(0, helper.make_node("Identity", ["step"], ["scale"]))
    stored += [] if zero is None else [numpy_helper.from_array(np.array(zero), "zero")]
    value = helper.make_tensor_value_info("images", TensorProto.FLOAT, [None])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [None])
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(helper.make_graph(nodes, "x", [value], [out], stored), opset_imports=opset, ir_version=10)


def weighed(weight: np.ndarray, zero: np.ndarray, axis: int) -> onnx.ModelProto:
    """Numbers times stored weights, one scale for each place of an axis."""
    stored = [
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(np.array([0.5, 2.0], np.float32), "scale"),
        numpy_helper.from_array(zero, "zero"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["weight", "scale", "zero"], ["whole"], axis=axis),
        helper.make_node("MatMul", ["images", "whole"], ["out"]),
    ]
    value = helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, 2])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, 2])
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(helper.make_graph(nodes, "x", [value], [out], stored), opset_imports=opset, ir_version=10)


def test_a_graph_for_cpus_becomes_symmetric_and_passes_the_gate_of_engines() -> None:
    published = source_of(SHIPPED, MODEL, 2, INT8)
    made = onnx.load_model_from_string(published.graph())
    assert zero_points(onnx.load(published.folder / published.recipe.file)) > 0
    assert zero_points(made) == 0
    source = replace(published, recipe=replace(published.recipe, batches=(1, 8, 8)))
    assert check_answers(source, lambda images: run(made, images))["largest_difference"] < 0.05


def test_its_convolutions_compute_in_int8_but_for_the_one_that_takes_the_pixels() -> None:
    graph = onnx.load_model_from_string(source_of(SHIPPED, MODEL, 2, INT8).graph()).graph
    maker = {name: node.op_type for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    whole = [node for node in convolutions if [maker.get(name) for name in node.input[:2]] != ["DequantizeLinear"] * 2]
    assert len(convolutions) == 33
    assert [[maker.get(name) for name in node.input[:2]] for node in whole] == [["Transpose", None]]
    stored = {each.name for each in graph.initializer}
    assert all(node.input[2] in stored for node in convolutions)


@pytest.mark.parametrize(
    ("zero", "asymmetric"),
    [(np.int8(0), 0), (np.int8(3), 1), (np.uint8(0), 1), (np.uint8(128), 1), (None, 1)],
)
def test_a_tensor_is_symmetric_with_the_whole_of_its_range(zero: np.generic | None, asymmetric: int) -> None:
    graph = quantised(zero)
    assert zero_points(graph) == asymmetric
    even = onnx.load_model_from_string(in_int8(graph.SerializeToString()))
    assert zero_points(even) == 0
    assert (even == graph) == (not asymmetric)
    low, high = (-128, 127) if isinstance(zero, np.int8) else (0, 255)
    level = int(zero or 0)
    ends = np.linspace((low - level) * STEP, (high - level) * STEP, 50, dtype=np.float32)
    step = max(level - low, high - level) * STEP / 127
    np.testing.assert_allclose(run(even, ends)["out"], ends, atol=step / 2 + 0.5 * STEP * (not asymmetric))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("zero", [np.array([0, 0], np.int8), np.array([0, 5], np.int8), np.array([7, 128], np.uint8)])
def test_weights_keep_their_values(zero: np.ndarray, axis: int) -> None:
    graph = weighed(np.array([[100, 3], [5, 77]], zero.dtype), zero, axis)
    images = np.eye(2, dtype=np.float32)
    made = symmetric(graph)
    assert zero_points(made) == 0
    assert any(node.op_type == "DequantizeLinear" for node in made.graph.node) == (not zero.any())
    np.testing.assert_array_equal(run(made, images)["out"], run(graph, images)["out"])


def test_a_scale_that_is_no_number_of_the_graph_is_named() -> None:
    with pytest.raises(DataError, match="symmetric int8 only, and 'scale' is no number in the graph"):
        in_int8(quantised(np.uint8(0), [STEP]).SerializeToString())
