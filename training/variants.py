"""Lower precision variants of an exported graph: fp16 for GPUs, int8 (static QDQ) for CPUs."""

import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

#: Names of the files of a version directory.
FP32_FILE, FP16_FILE, INT8_FILE = "model.onnx", "model.fp16.onnx", "model.int8.onnx"
#: What int8 is done to: convolutions and what stands between them. Normalisation, the head and softmax stay float.
_QUANTISED: Final = ["Conv", "Relu", "Clip", "MaxPool", "AveragePool", "Add", "Concat"]
_CALIBRATION_BATCH: Final = 16
#: fp16 steps are 0.06 at 255: pixels are normalised in float32 before anything is halved.
_KEPT_FLOAT: Final = frozenset({"Softmax"})


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
    """The graph in fp16: uint8 in, float32 out; normalisation and everything from the softmax on stay float32."""
    plain = plain_weights(model)
    made: onnx.ModelProto = convert_float_to_float16(
        plain,
        keep_io_types=True,
        disable_shape_infer=False,
        op_block_list=sorted({*DEFAULT_OP_BLOCK_LIST, *_KEPT_FLOAT}),
        node_block_list=sorted(_before_the_network(plain) | _after_softmax(plain)),
    )
    onnx.checker.check_model(made)
    return made


def _before_the_network(model: onnx.ModelProto) -> set[str]:
    """Nodes that turn pixels into normalised floats."""
    found, reached = set(), {"images"}
    for node in model.graph.node:
        if node.op_type in {"Cast", "Transpose", "Sub", "Mul", "Div"} and reached & set(node.input):
            found.add(node.name)
            reached.update(node.output)
    return found


def _after_softmax(model: onnx.ModelProto) -> set[str]:
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


def to_int8(model: onnx.ModelProto, photos: np.ndarray) -> onnx.ModelProto:
    """The graph with int8 convolutions between QuantizeLinear and DequantizeLinear nodes, calibrated on photos.

    Weights use 7 of their 8 bits: CPUs without VNNI add pairs of products in 16 bits, which would saturate, so that a
    decision would depend on the CPU.

    Args:
        model: What `export` made.
        photos: uint8 [N, S, S, 3], a few hundred real ones.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "source.onnx"), Path(folder, "made.onnx")
        onnx.save(plain_weights(model), source)
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
        )
        quantised = onnx.load(made)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised
