"""A published ONNX graph in torch, on a CPU or a GPU: for machines that have torch and CUDA, but no TensorRT."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

TYPES = {TensorProto.FLOAT: torch.float32, TensorProto.FLOAT16: torch.float16, TensorProto.UINT8: torch.uint8}


class TorchGraph:
    """uint8 photos [N, S, S, 3] to outputs by name, computed in the types of the graph."""

    def __init__(self, body: bytes, device: str) -> None:
        graph = onnx.load_model_from_string(body).graph
        if unknown := {node.op_type for node in graph.node} - OPERATORS.keys():
            raise ValueError(f"operators that torch_graph.py does not know: {', '.join(sorted(unknown))}")
        self._nodes = [
            (OPERATORS[node.op_type], list(node.input), node.output[0], attributes(node)) for node in graph.node
        ]
        self._stored = {
            each.name: torch.from_numpy(np.array(numpy_helper.to_array(each))).to(device) for each in graph.initializer
        }
        self.names = [output.name for output in graph.output]
        self.device = device

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """With the transfers to the device and back."""
        found = self.compute(torch.from_numpy(images).to(self.device))
        return {name: values.float().cpu().numpy() for name, values in found.items()}

    @torch.inference_mode()
    def compute(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """On what is on the device."""
        values = {**self._stored, "images": images}
        for run, inputs, output, settings in self._nodes:
            values[output] = run([values[name] if name else None for name in inputs], settings)
        return {name: values[name] for name in self.names}


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def conv(inputs: list[Any], settings: dict[str, Any]) -> torch.Tensor:
    image, weight, *bias = inputs
    top, left, bottom, right = settings.get("pads", [0, 0, 0, 0])
    image = functional.pad(image, (left, right, top, bottom))
    return functional.conv2d(
        image, weight, bias[0] if bias else None, settings.get("strides", 1), 0, settings.get("dilations", 1),
        settings.get("group", 1),
    )  # fmt: skip


def clip(inputs: list[Any], _settings: dict[str, Any]) -> torch.Tensor:
    value, low, high = [*inputs, None, None][:3]
    return torch.clamp(value, low, high)


def mean(inputs: list[Any], settings: dict[str, Any]) -> torch.Tensor:
    return inputs[0].mean(inputs[1].tolist(), keepdim=bool(settings.get("keepdims", 1)))


def gemm(inputs: list[Any], settings: dict[str, Any]) -> torch.Tensor:
    left = inputs[0].T if settings.get("transA") else inputs[0]
    right = inputs[1].T if settings.get("transB") else inputs[1]
    product = settings.get("alpha", 1.0) * (left @ right)
    return product + settings.get("beta", 1.0) * inputs[2] if len(inputs) > 2 else product


def pool(inputs: list[Any], settings: dict[str, Any]) -> torch.Tensor:
    top, left, bottom, right = settings.get("pads", [0, 0, 0, 0])
    padded = functional.pad(inputs[0], (left, right, top, bottom), value=float("-inf"))
    return functional.max_pool2d(padded, settings["kernel_shape"], settings.get("strides", 1))


Operator = Callable[[list[Any], dict[str, Any]], torch.Tensor]
OPERATORS: dict[str, Operator] = {
    "Add": lambda inputs, _: inputs[0] + inputs[1],
    "Cast": lambda inputs, settings: inputs[0].to(TYPES[settings["to"]]),
    "Clip": clip,
    "Concat": lambda inputs, settings: torch.cat(inputs, settings["axis"]),
    "Conv": conv,
    "Div": lambda inputs, _: inputs[0] / inputs[1],
    "Gemm": gemm,
    "MatMul": lambda inputs, _: inputs[0] @ inputs[1],
    "MaxPool": pool,
    "Mul": lambda inputs, _: inputs[0] * inputs[1],
    "ReduceMean": mean,
    "Relu": lambda inputs, _: torch.relu(inputs[0]),
    "Softmax": lambda inputs, settings: torch.softmax(inputs[0], settings.get("axis", -1)),
    "Sqrt": lambda inputs, _: torch.sqrt(inputs[0]),
    "Sub": lambda inputs, _: inputs[0] - inputs[1],
    "Transpose": lambda inputs, settings: inputs[0].permute(settings["perm"]),
}
