"""The graph for CPUs: int8 convolutions between QuantizeLinear and DequantizeLinear nodes (static QDQ).

CPUs with AVX2 or AVX-512 but without VNNI add the products of two neighbouring input channels in 16 bits, where
255 x (127 + 127) saturates, so that a decision would depend on the CPU. oneDNN, which computes OpenVINO's convolutions,
does nothing against it. Therefore an output channel's weights use as much of their 8 bits as no pair can saturate with.
"""

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from training.publish.precisions import plain_weights

#: Operators quantised to int8: convolutions, and of those before a convolution these. Normalisation, statistics, the
#: head and softmax stay float.
_QUANTISED: Final = ["Conv", "Relu", "Clip", "MaxPool", "AveragePool", "Add", "Concat"]
_CALIBRATION_BATCH: Final = 16
#: Channels that oneDNN lays side by side; of convolutions with others, any two weights may meet.
_LANES: Final = 4
#: Name of the pixels less a constant, which the first convolution takes.
_CENTRED: Final = "centred"
Arrays = dict[str, NDArray[Any]]


class _Photos(CalibrationDataReader):  # type: ignore[misc]  # the library ships no types
    """Feeds photos to the calibration, a batch at a time."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._parts = iter(np.split(images, range(_CALIBRATION_BATCH, len(images), _CALIBRATION_BATCH)))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch, or None at the end."""
        part = next(self._parts, None)
        return None if part is None else {"images": part}


def to_int8(model: onnx.ModelProto, photos: NDArray[np.uint8]) -> onnx.ModelProto:
    """The graph with int8 convolutions, calibrated on photos.

    Where one convolution follows the normalisation, its input is the pixels themselves.

    Args:
        model: What `export` made.
        photos: uint8 [N, S, S, 3], a few hundred real ones.
    """
    plain = plain_weights(model)
    centre = _centre_pixels(plain)
    before = _before_convolutions(plain)
    nodes = [node.name for node in plain.graph.node if node.op_type in _QUANTISED and node.name in before]
    ranges = _weight_ranges(plain)
    if centre is not None:
        ranges[_CENTRED] = [{"rmin": np.float32(-centre), "rmax": np.float32(255 - centre)}]
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "source.onnx"), Path(folder, "made.onnx")
        onnx.save(plain, source)
        quantize_static(
            source,
            made,
            _Photos(photos),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED,
            nodes_to_quantize=nodes,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            # an output is quantised where a quantised node reads it, so not what statistics and the head see alone
            extra_options={"TensorQuantOverrides": ranges, "OpTypesToExcludeOutputQuantization": _QUANTISED},
        )
        quantised = onnx.load(made)
    if centre is not None:
        _quantised_already(quantised)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def pair_sums(weights: NDArray[Any]) -> NDArray[Any]:
    """The largest sum, by output channel, of two weights of one sign whose products are added in 16 bits.

    Args:
        weights: Of a convolution, [outputs, inputs of a group, height, width].

    Returns:
        [outputs], none less than the largest weight.
    """
    count, inputs = weights.shape[:2]
    signed = np.stack([np.maximum(weights, 0), np.maximum(-weights, 0)])
    if inputs == 1:  # depthwise: every product is added alone
        sums = signed
    elif inputs % _LANES == 0:
        sums = signed[:, :, ::2] + signed[:, :, 1::2]
    else:
        sums = np.sort(signed.reshape(2, count, -1))[:, :, -2:].sum(2)
    found: NDArray[Any] = sums.reshape(2, count, -1).max((0, 2))
    return found


def _weight_ranges(model: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
    """By convolution weight and output channel, the range that becomes -127..127, so that no pair passes 127.

    255 x 128 is the largest product below the bound of 16 bits, 32,767; rounding may add one half to each of a pair.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, list[dict[str, Any]]] = {}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in stored:
            sums = pair_sums(numpy_helper.to_array(stored[node.input[1]]))
            channels: list[dict[str, Any]] = [{"rmin": -value, "rmax": value} for value in sums]
            channels[0]["axis"] = 0
            found[node.input[1]] = channels
    return found


def _before_convolutions(model: onnx.ModelProto) -> set[str]:
    """Names of convolutions, and of nodes that one of them needs."""
    found: set[str] = set()
    needed: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type == "Conv" or needed & set(node.output):
            found.add(node.name)
            needed.update(node.input)
    return found


def _path_to_convolution(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes from the pixels to the first convolution; none where they branch before it, or there is none."""
    path: list[onnx.NodeProto] = []
    while not path or path[-1].op_type != "Conv":
        name = path[-1].output[0] if path else "images"
        followers = [node for node in graph.node if name in node.input]
        if len(followers) != 1 or followers[0].input[0] != name:
            return []
        path += followers
    return path


def _affine(nodes: list[onnx.NodeProto], stored: Arrays) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Scale and shift [1, 3, 1, 1] of nodes on planes; None where one is other than arithmetic with a constant."""
    scale, shift = np.ones((1, 3, 1, 1)), np.zeros((1, 3, 1, 1))
    for node in nodes:
        value = stored.get(node.input[1]) if node.op_type in {"Sub", "Add", "Mul", "Div"} else None
        if value is None or (value.size, value.shape[-3:]) not in {(1, ()), (1, (1, 1, 1)), (3, (3, 1, 1))}:
            return None
        if node.op_type in {"Mul", "Div"}:
            factor = value if node.op_type == "Mul" else 1 / value.astype(np.float64)
            scale, shift = scale * factor, shift * factor
        else:
            shift = shift + (value if node.op_type == "Add" else -value)
    return scale, shift


def _centre_pixels(model: onnx.ModelProto) -> int | None:
    """Folds the normalisation into the convolution that follows, in place, but for a whole number of levels.

    The input of the convolution is then `_CENTRED`. Its zero padding means that level and not the mean of each channel,
    which with ImageNet's means is at most 11 levels away.

    Returns:
        The level; None, with the model unchanged, where something else follows the pixels.
    """
    graph = model.graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    path = _path_to_convolution(graph)
    if [node.op_type for node in path[:2]] != ["Cast", "Transpose"] or not {*path[-1].input[1:]} <= stored.keys():
        return None
    _, turn, *arithmetic, conv = path
    affine = _affine(arithmetic, stored)
    if affine is None:
        return None
    scale, shift = affine
    centre = int(np.clip(np.rint((-shift / scale).mean()), 0, 255))
    weight = stored[conv.input[1]] * scale
    bias = stored[conv.input[2]] if len(conv.input) > 2 else 0
    bias = bias + (stored[conv.input[1]] * (scale * centre + shift)).sum((1, 2, 3))
    made = {f"{_CENTRED}.level": np.float32(centre), f"{_CENTRED}.weight": weight, f"{_CENTRED}.bias": bias}
    for name, values in made.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
    level, *parameters = made
    minus = helper.make_node("Sub", [turn.output[0], level], [_CENTRED], _CENTRED)
    graph.node.insert(list(graph.node).index(turn) + 1, minus)
    for node in arithmetic:
        graph.node.remove(node)
    del conv.input[:]
    conv.input.extend([_CENTRED, *parameters])
    _forget_unused(graph)
    return centre


def _forget_unused(graph: onnx.GraphProto) -> None:
    """Removes, in place, initializers that no node reads."""
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _quantised_already(model: onnx.ModelProto) -> None:
    """Removes, in place, the nodes that compute a quantised pixel from a pixel: they are the same number.

    The transposition comes last, since OpenVINO otherwise runs the convolution in float.
    """
    graph = model.graph
    maker = {node.output[0]: node for node in graph.node}
    minus = maker[_CENTRED]
    turn = maker[minus.input[0]]
    cast = maker[turn.input[0]]
    quantise = next(node for node in graph.node if node.input[0] == _CENTRED)
    back = next(node for node in graph.node if node.input[0] == quantise.output[0])
    conv = next(node for node in graph.node if back.output[0] in node.input)
    back.input[0] = cast.input[0]
    turn.input[0], turn.output[0], conv.input[0] = back.output[0], _CENTRED, _CENTRED
    for node in (cast, turn, minus, quantise):
        graph.node.remove(node)
    graph.node.insert(list(graph.node).index(conv), turn)
    _forget_unused(graph)
    del graph.value_info[:]
