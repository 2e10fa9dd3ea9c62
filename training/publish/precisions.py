"""Lower precision variants of an exported graph: fp16 for GPUs, int8 (static QDQ) for CPUs."""

import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

#: Names of the files of a version directory.
FP32_FILE, FP16_FILE, INT8_FILE = "model.onnx", "model.fp16.onnx", "model.int8.onnx"
#: Operators quantised to int8: convolutions and those between them. Normalisation, the head and softmax stay float.
_QUANTISED: Final = ["Conv", "Relu", "Clip", "MaxPool", "AveragePool", "Add", "Concat"]
_CALIBRATION_BATCH: Final = 16
#: The zero point of uint8 pixels that are used as quantised values without conversion, and their range.
_CENTRE: Final = 114
_PIXELS: Final = {"rmin": np.float32(-_CENTRE), "rmax": np.float32(255 - _CENTRE)}


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


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in fp16: uint8 in, float32 out; normalisation and everything from the softmax on stay float32.

    fp16 steps are 0.06 at 128: pixels must be normalised before anything is halved.
    """
    made = plain_weights(model)
    graph = made.graph
    kept = _before_the_network(made) | _after_softmax(made)
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


def _after_softmax(model: onnx.ModelProto) -> set[str]:
    """Nodes from the softmax to the outputs."""
    found: set[str] = set()
    reached: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Softmax" or reached & set(node.input):
            found.add(node.name)
            reached.update(node.output)
    return found


class _Photos(CalibrationDataReader):  # type: ignore[misc]  # the library ships no types
    """Feeds photos to the calibration, a batch at a time."""

    def __init__(self, images: np.ndarray) -> None:
        self._parts = iter(np.split(images, range(_CALIBRATION_BATCH, len(images), _CALIBRATION_BATCH)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, or None at the end."""
        part = next(self._parts, None)
        return None if part is None else {"images": part}


def _centre_pixels(model: onnx.ModelProto) -> str | None:
    """Folds the scale of the normalisation, and its means less `_CENTRE`, into the convolution that follows, in place.

    The input of the convolution is then pixels less `_CENTRE`. Its zero padding now means this grey and not the mean of
    each channel, which is at most 11 levels away.

    Returns:
        The name of the centred pixels; None, with the model unchanged, where another operator follows.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    chain, name = [], "images"
    for kind in ("Cast", "Transpose", "Sub", "Mul", "Conv"):
        followers = [node for node in graph.node if name in node.input]
        if [node.op_type for node in followers] != [kind]:
            return None
        chain.append(followers[0])
        name = followers[0].output[0]
    *_, minus, times, conv = chain
    if not {minus.input[1], times.input[1], *conv.input[1:]} <= stored.keys():
        return None
    mean, scale, weight = (
        numpy_helper.to_array(stored[key]) for key in (minus.input[1], times.input[1], conv.input[1])
    )
    weight = weight * scale.reshape(1, -1, 1, 1)
    bias = numpy_helper.to_array(stored[conv.input[2]]) if len(conv.input) > 2 else 0
    bias = bias - (weight * (mean.reshape(1, -1, 1, 1) - _CENTRE)).sum((1, 2, 3))
    for key, values in (("centre", np.float32(_CENTRE)), ("centred.weight", weight), ("centred.bias", bias)):
        graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), key))
    minus.input[1] = "centre"
    del conv.input[:]
    conv.input.extend([minus.output[0], "centred.weight", "centred.bias"])
    graph.node.remove(times)
    _forget_unused(graph)
    return str(minus.output[0])


def _forget_unused(graph: onnx.GraphProto) -> None:
    """Removes, in place, initializers that no node reads."""
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _quantised_already(model: onnx.ModelProto, pixels: str) -> None:
    """Removes, in place, the nodes that compute a quantised pixel from a pixel: they are the same number.

    The transposition comes last, since OpenVINO otherwise runs the convolution in float.
    """
    graph = model.graph
    cast, turn, minus = (
        next(node for node in graph.node if node.op_type == kind) for kind in ("Cast", "Transpose", "Sub")
    )
    quantise = next(node for node in graph.node if node.input[0] == pixels)
    back = next(node for node in graph.node if node.input[0] == quantise.output[0])
    conv = next(node for node in graph.node if back.output[0] in node.input)
    back.input[0] = cast.input[0]
    turn.input[0], turn.output[0], conv.input[0] = back.output[0], pixels, pixels
    for node in (cast, turn, minus, quantise):
        graph.node.remove(node)
    graph.node.insert(list(graph.node).index(conv), turn)
    _forget_unused(graph)
    del graph.value_info[:]


def to_int8(model: onnx.ModelProto, photos: np.ndarray) -> onnx.ModelProto:
    """The graph with int8 convolutions between QuantizeLinear and DequantizeLinear nodes, calibrated on photos.

    Weights use 7 of their 8 bits: CPUs without VNNI add pairs of products in 16 bits, which would saturate, so that a
    decision would depend on the CPU. Where one convolution follows the normalisation, its input is the pixels
    themselves.

    Args:
        model: What `export` made.
        photos: uint8 [N, S, S, 3], a few hundred real ones.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "source.onnx"), Path(folder, "made.onnx")
        plain = plain_weights(model)
        pixels = _centre_pixels(plain)
        onnx.save(plain, source)
        quantize_static(
            source,
            made,
            _Photos(photos),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"TensorQuantOverrides": {pixels: [_PIXELS]}} if pixels else {},
        )
        quantised = onnx.load(made)
    if pixels:
        _quantised_already(quantised, pixels)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised
