"""int8 graphs for TensorRT: zero points of 0 everywhere, from one that is calibrated for CPUs.

The ranges that the calibration found stay: a tensor of [low, high] becomes one of -high..high, the larger of both. An
output of Relu so has half the steps that it had, which is what TensorRT's own calibration gives it.
"""

from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

#: TensorRT quantises to -128..127; a range of the larger side fits -127..127.
_MOST: Final = 127
_QUANTISED: Final = {"QuantizeLinear", "DequantizeLinear"}
Arrays = dict[str, NDArray[Any]]


def zero_points(model: onnx.ModelProto) -> int:
    """How many quantised tensors of a graph are not symmetric int8."""
    stored = _stored(model)
    quantised = [node for node in model.graph.node if node.op_type in _QUANTISED]
    zeros = {node.input[2] for node in quantised if len(node.input) > 2}
    # Without a zero point the quantised type is uint8.
    bare: int = sum(len(node.input) < 3 and node.op_type == "QuantizeLinear" for node in quantised)
    shifted = [name for name in zeros if name not in stored or stored[name].dtype != np.int8 or stored[name].any()]
    return bare + len(shifted)


def symmetric(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which int8 is symmetric, biases are float32, and the pixels reach the first convolution as numbers.

    That convolution stays float32, with the values of its int8 weights: its input is the 256 levels of a pixel, of
    which symmetric int8 would lose half.

    Raises:
        KeyError: A scale or a zero point is no number that the graph holds.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    stored = _stored(made)
    floats: Arrays = {}
    pixels = _pixels(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type not in _QUANTISED:
            nodes.append(node)
        elif _takes_pixels(node):
            nodes += _levels(node, stored, floats)
        elif node.input[0] not in stored:
            nodes.append(_even(node, stored, floats))
        elif node.output[0] in pixels or stored[node.input[0]].dtype != np.int8 or _zero(node, stored).any():
            floats[node.output[0]] = _dequantised(node, stored)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    kept += [numpy_helper.from_array(value, name) for name, value in floats.items()]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    onnx.checker.check_model(made, full_check=True)
    return made


def _stored(model: onnx.ModelProto) -> Arrays:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _takes_pixels(node: onnx.NodeProto) -> bool:
    """Whether a node takes the pixels for numbers that are quantised already."""
    return node.op_type == "DequantizeLinear" and node.input[0] == "images"


def _pixels(graph: onnx.GraphProto) -> set[str]:
    """Names of the weights of convolutions that take the pixels themselves."""
    reached = {node.output[0] for node in graph.node if _takes_pixels(node)}
    found: set[str] = set()
    for node in graph.node:
        if node.input[0] in reached:
            if node.op_type == "Transpose":
                reached.update(node.output)
            elif node.op_type == "Conv":
                found.update(node.input[1:])
    return found


def _zero(node: onnx.NodeProto, stored: Arrays) -> NDArray[Any]:
    """The zero point; where there is none, that of a stored tensor's type, or of uint8, which is what it means then."""
    if len(node.input) > 2:
        return stored[node.input[2]]
    held = stored.get(node.input[0])
    return np.zeros(stored[node.input[1]].shape, np.uint8 if held is None else held.dtype)


def _levels(node: onnx.NodeProto, stored: Arrays, floats: Arrays) -> list[onnx.NodeProto]:
    """What such a node computes, as arithmetic."""
    name = node.output[0]
    floats[f"{name}.level"] = _zero(node, stored).astype(np.float32)
    floats[f"{name}.step"] = stored[node.input[1]]
    return [
        helper.make_node("Cast", ["images"], [f"{name}.cast"], f"{name}.cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", [f"{name}.cast", f"{name}.level"], [f"{name}.centred"], f"{name}.centred"),
        helper.make_node("Mul", [f"{name}.centred", f"{name}.step"], [name], name),
    ]


def _even(node: onnx.NodeProto, stored: Arrays, floats: Arrays) -> onnx.NodeProto:
    """The node with the scale and the zero point of a range that is as wide on both sides."""
    zero, name = _zero(node, stored), node.output[0]
    levels = np.iinfo(zero.dtype)
    most = np.maximum(zero - np.float32(levels.min), np.float32(levels.max) - zero)
    floats[f"{name}.step"] = (stored[node.input[1]] * most / _MOST).astype(np.float32)
    floats[f"{name}.zero"] = np.zeros(zero.shape, np.int8)
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.input[:] = [node.input[0], f"{name}.step", f"{name}.zero"]
    return made


def _dequantised(node: onnx.NodeProto, stored: Arrays) -> NDArray[np.float32]:
    """The numbers of a stored tensor, whose scales are one or one for each place of an axis."""
    value, scale = stored[node.input[0]].astype(np.float32), stored[node.input[1]]
    axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
    sides = [-1 if scale.ndim and place == axis % value.ndim else 1 for place in range(value.ndim)]
    zero = np.broadcast_to(_zero(node, stored), scale.shape).astype(np.float32)
    found: NDArray[np.float32] = (value - zero.reshape(sides)) * scale.reshape(sides)
    return found
