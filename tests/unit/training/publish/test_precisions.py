"""fp16: what it rounds too coarsely, or cannot hold, stays float32."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.publish.precisions import plain_weights, rounded, stored_small, to_fp16


def graph(second: np.ndarray) -> onnx.ModelProto:
    """Two convolutions, of which the second has the weights given, and the deviations between them."""
    rng = np.random.default_rng(0)
    stored = [
        numpy_helper.from_array(rng.normal(size=(16, 3, 3, 3)).astype(np.float32), "first"),
        numpy_helper.from_array(second.astype(np.float32), "second"),
        numpy_helper.from_array(np.float32(127), "mean"),
        numpy_helper.from_array(np.float32(60), "deviation"),
        numpy_helper.from_array(np.float32(1e-6), "least"),
        numpy_helper.from_array(np.array([2, 3], np.int64), "sides"),
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["planes", "mean"], ["centred"], "sub"),
        helper.make_node("Div", ["centred", "deviation"], ["normal"], "div"),
        helper.make_node("Conv", ["normal", "first"], ["a"], "conv1"),
        helper.make_node("ReduceMean", ["a", "sides"], ["m"], "mean", keepdims=0),
        helper.make_node("Mul", ["a", "a"], ["aa"], "squares"),
        helper.make_node("ReduceMean", ["aa", "sides"], ["mm"], "mean of squares", keepdims=0),
        helper.make_node("Mul", ["m", "m"], ["mmm"], "square of mean"),
        helper.make_node("Sub", ["mm", "mmm"], ["v"], "variance"),
        helper.make_node("Clip", ["v", "least"], ["c"], "positive"),
        helper.make_node("Sqrt", ["c"], ["s"], "root"),
        helper.make_node("Conv", ["a", "second"], ["b"], "conv2"),
        helper.make_node("ReduceMean", ["b", "sides"], ["t"], "top", keepdims=0),
        helper.make_node("Softmax", ["t"], ["p"], "softmax", axis=1),
        helper.make_node("Concat", ["p", "s"], ["seen"], "concat", axis=1),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 16, 16, 3])
    output = helper.make_tensor_value_info("seen", TensorProto.FLOAT, ["batch", 32])
    made = helper.make_graph(nodes, "toy", [images], [output], stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def weights(scale: float) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(16, 16, 1, 1)) * scale


def stored(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images})
    return np.asarray(found)


def test_rounded_weights_take_half_the_bytes_and_come_back_as_they_were_rounded() -> None:
    source = graph(weights(1.0))
    made = rounded(source)
    small = stored_small(made)
    assert small.ByteSize() < 0.7 * source.ByteSize()
    assert all(np.array_equal(values, stored(made)[name]) for name, values in stored(plain_weights(small)).items())
    for name, values in stored(source).items():
        assert np.allclose(stored(made)[name], values, rtol=2.0**-11, atol=np.abs(values).max() * 2.0**-11)


@pytest.mark.parametrize("scale", [1e5, 1e-7])
def test_weights_that_fp16_does_not_suit_stay_as_they_are(scale: float) -> None:
    source = graph(second := weights(scale))
    kept = stored(rounded(source))
    assert np.array_equal(kept["second"], second.astype(np.float32))
    assert not np.array_equal(kept["first"], stored(source)["first"])
    images = np.random.default_rng(2).integers(0, 256, (4, 16, 16, 3), np.uint8)
    expected, found = run(source, images), run(to_fp16(source), images)
    assert np.isfinite(found).all()
    assert np.allclose(found, expected, atol=0.02)


def test_deviations_are_computed_in_float32() -> None:
    # by type, not by value: on a CPU ONNX Runtime computes fp16 in float32
    made = onnx.shape_inference.infer_shapes(to_fp16(graph(weights(1.0))))
    kinds = {value.name: value.type.tensor_type.elem_type for value in made.graph.value_info}
    assert {kinds[name] for name in ("a", "b", "t")} == {TensorProto.FLOAT16}
    assert {kinds[name] for name in ("m", "aa", "mm", "mmm", "v", "c", "s")} == {TensorProto.FLOAT}
