"""Weights of an exported graph as fp16 numbers, and the graph that computes in fp16 on GPUs."""

from copy import deepcopy
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

#: Smaller tensors stay as they are.
_SMALL_TENSOR: Final = 64
#: Largest error of a rounded weight, as a share of its tensor's largest: half a step of fp16.
_ROUNDING: Final = 2.0**-11


def plain_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose fp16-stored weights are float32 initializers again, as tools expect them."""
    model = deepcopy(model)
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    kept = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in stored:
            tensor = stored[node.input[0]]
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), node.output[0]))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    return model


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large weights are numbers that fp16 holds; tensors that fp16 does not suit stay as they are.

    A channel whose weights are far below those of others may become zero: compare the decisions of both.
    """
    model = deepcopy(model)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= _SMALL_TENSOR and _suits_half(values):
            tensor.CopyFrom(numpy_helper.from_array(_half(values), tensor.name))
    return model


def stored_small(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose float32 weights are fp16 initializers followed by a Cast, wherever that is lossless."""
    model = deepcopy(model)
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _SMALL_TENSOR:
            continue
        half = _half(values)
        if not np.array_equal(half, values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half.astype(np.float16), f"{name}.fp16"))
        casts.append(helper.make_node("Cast", [f"{name}.fp16"], [name], f"{name}.cast", to=TensorProto.FLOAT))
    shapes = [info for info in graph.value_info if info.name not in {cast.output[0] for cast in casts}]
    nodes = [*casts, *graph.node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.value_info.extend(shapes)
    return model


def _half(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest numbers of fp16; infinite beyond its range."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def _suits_half(values: NDArray[np.float32]) -> bool:
    """Whether fp16 rounds no weight by more than half a step of the largest.

    Not so where a weight is beyond fp16's range, or all are so small that fp16 has few steps for them.
    """
    return bool((np.abs(_half(values) - values) <= _ROUNDING * np.abs(values).max()).all())


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in fp16: uint8 in, float32 out; what fp16 is too coarse or too small for stays float32.

    That is the normalisation (steps are 0.06 at 128: pixels must be normalised before anything is halved), variances
    (a small difference of large squares), weights beyond fp16's range, and everything from the softmax on.
    """
    made = plain_weights(model)
    graph = made.graph
    kept = _before_the_network(made) | _variances(made) | _unsuited(made) | _after_softmax(made)
    single = {name for node in graph.node if node.name in kept for name in node.output}
    half = {name for node in graph.node if node.name not in kept for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    nodes: list[onnx.NodeProto] = []
    added: dict[str, onnx.TensorProto] = {}
    casts: set[str] = set()
    for node in graph.node:
        is_kept = node.name in kept
        for index, name in enumerate(node.input):
            if name in weights and not is_kept:
                node.input[index] = f"{name}.half"
                added[name] = numpy_helper.from_array(
                    numpy_helper.to_array(weights[name]).astype(np.float16), f"{name}.half"
                )
            elif name in (half if is_kept else single):
                node.input[index] = cast = f"{name}.{'single' if is_kept else 'half'}"
                if cast not in casts:
                    kind = TensorProto.FLOAT if is_kept else TensorProto.FLOAT16
                    nodes.append(helper.make_node("Cast", [name], [cast], f"{cast}.cast", to=kind))
                    casts.add(cast)
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    stored = [tensor for tensor in (*graph.initializer, *added.values()) if tensor.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(stored)
    onnx.checker.check_model(made, full_check=True)
    return made


def _before_the_network(model: onnx.ModelProto) -> set[str]:
    """Nodes of the normalisation, from pixels to floats."""
    found, reached = set(), {"images"}
    for node in model.graph.node:
        if node.op_type in {"Cast", "Transpose", "Sub", "Mul", "Div"} and reached & set(node.input):
            found.add(node.name)
            reached.update(node.output)
    return found


def _variances(model: onnx.ModelProto) -> set[str]:
    """Nodes of deviations: from the root up to the means that it is computed from, and the squares of those."""
    maker = {name: node for node in model.graph.node for name in node.output}
    found: set[str] = set()
    waiting = [node for node in model.graph.node if node.op_type == "Sqrt"]
    while waiting:
        node = waiting.pop()
        found.add(node.name)
        above = [maker[name] for name in node.input if name in maker]
        if node.op_type == "ReduceMean":
            found.update(part.name for part in above if part.op_type == "Mul" and len({*part.input}) == 1)
        else:
            waiting += [part for part in above if part.op_type in {"Clip", "Max", "Sub", "Add", "Mul", "ReduceMean"}]
    return found


def _unsuited(model: onnx.ModelProto) -> set[str]:
    """Nodes with weights that fp16 does not suit."""
    unsuited = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) and not _suits_half(numpy_helper.to_array(tensor))
    }
    return {node.name for node in model.graph.node if unsuited & set(node.input)}


def _after_softmax(model: onnx.ModelProto) -> set[str]:
    """Nodes from the softmax to the outputs."""
    found: set[str] = set()
    reached: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Softmax" or reached & set(node.input):
            found.add(node.name)
            reached.update(node.output)
    return found
