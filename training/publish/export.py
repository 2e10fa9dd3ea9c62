"""Exports a network to ONNX for serving, and checks the graph's nodes and its outputs against torch's.

Weights that fp16 holds exactly are stored as fp16 with a Cast to float each, which halves the file.
"""

from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from training.errors import ExportError
from training.publish.parity import difference, torch_engine
from training.publish.precisions import stored_small
from training.serving.engines import onnxruntime_engine

OPSET = 20
#: Largest difference of any output from torch's, which computes the same in another order.
TOLERANCE = 1e-4
OLDEST_OPSET = 18
#: Largest batch of the exported graph; a TensorRT plan needs a bound.
MAX_BATCH = 64
#: Nodes that a dynamic batch must not leave in the graph: they prevent TensorRT's fusions.
SHAPE_NODES = frozenset({"Shape", "Range", "Gather", "Size", "NonZero", "Loop", "If"})


class _GlobalMean(TorchFunctionMode):
    """Replaces global average pooling by `mean`: adaptive pooling and flatten export as Shape, Range and Gather."""

    def __torch_function__(
        self,
        func: object,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        kwargs = kwargs or {}
        if func is functional.adaptive_avg_pool2d:
            size = kwargs.get("output_size", args[1] if len(args) > 1 else None)
            if size in {1, (1, 1)}:
                return args[0].mean((2, 3), keepdim=True)
        assert callable(func)  # noqa: S101
        return func(*args, **kwargs)


class _Exportable(nn.Module):
    """A served model, traced with global means."""

    def __init__(self, served: nn.Module) -> None:
        super().__init__()
        self.served = served

    def forward(self, images: torch.Tensor) -> Any:  # noqa: ANN401 - one tensor or a tuple of them
        with _GlobalMean():
            return self.served(images)


def check_graph(model: onnx.ModelProto) -> None:
    """Checks the contract of every served graph.

    Raises:
        ExportError: An old opset, another input than uint8 NHWC of any batch, pixels that are not cast to float first,
            or nodes that compute shapes.
    """
    onnx.checker.check_model(model, full_check=True)
    opset = max(entry.version for entry in model.opset_import if not entry.domain)
    if opset < OLDEST_OPSET:
        raise ExportError(f"opset {opset}, at least {OLDEST_OPSET} is needed")
    left = sorted(SHAPE_NODES & {node.op_type for node in model.graph.node})
    if left:
        raise ExportError(f"the graph computes shapes with {', '.join(left)}; this network cannot be served")
    (images,) = model.graph.input
    tensor = images.type.tensor_type
    batch, *sides = tensor.shape.dim
    if tensor.elem_type != TensorProto.UINT8 or len(sides) != 3 or sides[2].dim_value != 3:
        raise ExportError(f"the input is {images}, not uint8 [N, H, W, 3]")
    for value in (images, *model.graph.output):
        if not value.type.tensor_type.shape.dim[0].dim_param:
            raise ExportError(f"{value.name} has a fixed batch")
    if batch.dim_value:
        raise ExportError("the batch is fixed")
    first = [node.op_type for node in model.graph.node if "images" in node.input]
    if first != ["Cast"]:
        raise ExportError(f"pixels must be cast to float first, not go into {first}: TensorRT takes no other start")


def export(
    served: nn.Module, outputs: tuple[str, ...], check: np.ndarray, tolerance: float = TOLERANCE
) -> onnx.ModelProto:
    """Exports a served model.

    Args:
        served: uint8 [N, S, S, 3] to one float tensor or a tuple of them.
        outputs: Names of the outputs, in order.
        check: uint8 photos [N, S, S, 3] to compare on, real ones rather than noise.
        tolerance: Largest difference of any output.

    Raises:
        ExportError: An output differs by more than the tolerance, or `check_graph` refuses the graph.
    """
    served = served.eval()
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    program = torch.onnx.export(
        _Exportable(served).eval(),
        (torch.zeros((2, *check.shape[1:]), dtype=torch.uint8),),
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
    for node in model.graph.node:  # the exporter leaves stack traces of this machine's files in every node
        del node.metadata_props[:]
        node.doc_string = ""
    model = stored_small(model)
    check_graph(model)
    parts = (check[:1], *np.split(check, range(MAX_BATCH, len(check), MAX_BATCH)))
    expected, found = torch_engine(served), onnxruntime_engine(model)
    worst = max(difference(expected(part), found(part)) for part in parts)
    if worst > tolerance:
        raise ExportError(f"torch and ONNX Runtime differ by {worst:.2e}, more than {tolerance:.0e}")
    return model
