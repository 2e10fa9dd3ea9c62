"""Exports a served model to ONNX and proves that ONNX Runtime computes what torch computes.

Weights are stored as fp16 with a Cast to float each, which halves the file so that both reference versions stay under
8 MB in git. They are rounded in torch first, so storing them loses nothing more.
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.data.sets import INPUT_PX
from training.models import Block, ResNet10

OPSET = 20
#: Largest batch of the exported graph; a TensorRT plan needs a bound.
MAX_BATCH = 64
#: Largest difference of any probability between torch and ONNX Runtime.
TOLERANCE = 1e-4
#: Nodes that a dynamic batch must not leave in the graph: they cost TensorRT its fusions.
SHAPE_NODES = frozenset({"Shape", "Range", "Gather"})
_SMALL_TENSOR = 64


class ExportError(Exception):
    """The exported graph does not do what the torch model does, or holds nodes that it must not hold."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An ONNX model, and the largest probability difference that was measured against torch."""

    model: onnx.ModelProto
    parity: float


def deployable(net: ResNet10) -> ResNet10:
    """A copy for serving: norms folded into convolutions, weights rounded to what fp16 can hold."""
    net = deepcopy(net).eval()
    net.stem, net.norm = fuse_conv_bn_eval(net.stem, net.norm), nn.Identity()  # type: ignore[assignment]
    for block in net.stages:
        assert isinstance(block, Block)  # noqa: S101
        block.conv1, block.norm1 = fuse_conv_bn_eval(block.conv1, block.norm1), nn.Identity()  # type: ignore[assignment]
        block.conv2, block.norm2 = fuse_conv_bn_eval(block.conv2, block.norm2), nn.Identity()  # type: ignore[assignment]
        if isinstance(block.shortcut, nn.Sequential):
            conv, norm = block.shortcut
            block.shortcut = fuse_conv_bn_eval(conv, norm)  # type: ignore[type-var, arg-type]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.half().float())
    return net


def _store_fp16(model: onnx.ModelProto) -> None:
    """Replaces float32 weights by fp16 initializers that a Cast turns back, in place; small tensors stay."""
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _SMALL_TENSOR:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
        casts.append(helper.make_node("Cast", [f"{name}.fp16"], [name], f"{name}.cast", to=TensorProto.FLOAT))
    shapes = [info for info in graph.value_info if info.name not in {cast.output[0] for cast in casts}]
    nodes = [*casts, *graph.node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.value_info.extend(shapes)


def _parity(served: nn.Module, model: onnx.ModelProto, images: np.ndarray) -> float:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = served(torch.from_numpy(images))
    expected = expected if isinstance(expected, tuple) else (expected,)
    worst = 0.0
    for want, got in zip(expected, session.run(None, {"images": images}), strict=True):
        worst = max(worst, float(np.abs(want.numpy() - got).max()))
    return worst


def export(served: nn.Module, outputs: tuple[str, ...], check: np.ndarray) -> Exported:
    """Exports a served model.

    Args:
        served: uint8 [N, INPUT_PX, INPUT_PX, 3] to one float tensor or a tuple of them.
        outputs: Names of the outputs, in order.
        check: uint8 photos [N, INPUT_PX, INPUT_PX, 3] to compare on; use real inputs, not noise.

    Raises:
        ExportError: A probability differs by more than TOLERANCE, or the graph computes shapes.
    """
    served = served.eval()
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    program = torch.onnx.export(
        served,
        (torch.zeros((2, INPUT_PX, INPUT_PX, 3), dtype=torch.uint8),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=list(outputs),
        dynamic_shapes={"images": {0: batch}},
        verbose=False,
    )
    if program is None:
        raise ExportError("torch.onnx.export returned no program")
    model = program.model_proto
    _store_fp16(model)
    for node in model.graph.node:  # the exporter leaves stack traces of this machine's files in every node
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    left = sorted(SHAPE_NODES & {node.op_type for node in model.graph.node})
    if left:
        raise ExportError(f"the graph computes shapes with {', '.join(left)}")
    parity = max(_parity(served, model, part) for part in (check[:1], check))
    if parity > TOLERANCE:
        raise ExportError(f"torch and ONNX Runtime differ by {parity:.2e}, more than {TOLERANCE:.0e}")
    return Exported(model, parity)


def write(exported: Exported, path: Path) -> None:
    """Writes the model as one file."""
    path.write_bytes(exported.model.SerializeToString(deterministic=True))
