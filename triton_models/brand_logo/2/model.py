"""Triton's python backend for one version directory: OpenVINO or ONNX Runtime, one run for a whole batch of requests.

Triton copies nothing: it executes this file from the version directory, so it may import only numpy and its engine.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

#: uint8 [N, H, W, 3] to the outputs of the graph, in its order.
Run = Callable[[np.ndarray], list[np.ndarray]]
#: Pixels of the images in one run: what more of them make leaves the cache of a core, for up to 15 % more time each.
_PIXELS_AT_ONCE = 65_536
_MOST_AT_ONCE = 8
_CONTRACT_OUTPUT = "contract_id"


def onnxruntime_run(path: Path, threads: int) -> tuple[list[str], Run]:
    """Names of the outputs, and what computes them with ONNX Runtime."""
    # Its wheels report usage over the network and leave files in the temporary folder unless told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # noqa: PLC0415 - a version needs one engine

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    step = _at_once(*session.get_inputs()[0].shape[1:3])

    def run(images: np.ndarray) -> list[np.ndarray]:
        starts = range(0, len(images), step)
        parts = [session.run(names, {"images": images[start : start + step]}) for start in starts]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    return names, run


def openvino_run(path: Path, threads: int) -> tuple[list[str], Run]:
    """As `onnxruntime_run`, with OpenVINO."""
    import openvino  # noqa: PLC0415 - a version needs one engine

    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # what is not int8 stays float32: bfloat16 on CPUs that have it would decide otherwise than the parity gate saw
        "INFERENCE_PRECISION_HINT": "f32",
        # instances would pin their thread to the same core
        "ENABLE_CPU_PINNING": False,
    }
    model = core.read_model(str(path))
    names = [output.get_any_name() for output in model.outputs]
    sides = [side.get_length() for side in list(model.input(0).get_partial_shape())[1:]]
    # Of fixed sizes: a graph for batches of any size takes up to half as much time again.
    requests: dict[int, Any] = {}
    for size in sorted({_at_once(*sides[:2]), 1}, reverse=True):
        model.reshape([size, *sides])
        requests[size] = core.compile_model(model, "CPU", options).create_infer_request()

    def run(images: np.ndarray) -> list[np.ndarray]:
        # By tensors: a dictionary would cost 0.1 ms a call, a fifth of what one photo takes. A tensor only borrows the
        # memory, so the pixels need a name until the end.
        pixels = np.require(images, requirements=["C", "W"])
        parts: list[list[np.ndarray]] = []
        start = 0
        while start < len(pixels):
            size = next(size for size in requests if size <= len(pixels) - start)
            request = requests[size]
            request.set_input_tensor(openvino.Tensor(pixels[start : start + size], shared_memory=True))
            request.infer()
            parts.append([np.array(request.get_output_tensor(index).data) for index in range(len(names))])
            start += size
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    return names, run


def _at_once(height: int, width: int) -> int:
    """How many images a run takes: a power of two."""
    most = max(1, min(_MOST_AT_ONCE, _PIXELS_AT_ONCE // (height * width)))
    return 1 << (most.bit_length() - 1)


def _contract_id(parameters: dict[str, str]) -> int:
    """The number that stands for the labels in their order and the input, as docs/reference/contracts.md has it.

    Each answer says it, so that a reader who knows other labels notices at once: the names are not in the answer.
    """
    text = " ".join(parameters[name] for name in ("label_checksum", "input_size", "resize_short_side"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)


_ENGINES = {"onnxruntime": onnxruntime_run, "openvino": openvino_run}


class TritonPythonModel:
    """Serves `images` UINT8 [N, H, W, 3]; outputs are those of the ONNX graph, in its order."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads what `engine.<version>` names, else MODEL_FILE in ENGINE, with THREADS threads."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        default = {
            "engine": parameters.get("ENGINE", "onnxruntime"),
            "file": parameters.get("MODEL_FILE", "model.onnx"),
        }
        chosen = json.loads(parameters.get(f"engine.{args['model_version']}", json.dumps(default)))
        path = Path(args["model_repository"]) / args["model_version"] / chosen["file"]
        self.outputs, self.run = _ENGINES[chosen["engine"]](path, int(parameters.get("THREADS", "1")))
        self.sides = tuple(config["input"][0]["dims"])
        told = [output["name"] for output in config["output"]]
        self.contract = _contract_id(parameters) if _CONTRACT_OUTPUT in told else None

    def _images(self, request: object) -> np.ndarray:
        images: np.ndarray = pb_utils.get_input_tensor_by_name(request, "images").as_numpy()
        if images.dtype != np.uint8 or images.shape[1:] != tuple(int(side) for side in self.sides):
            raise ValueError(f"images must be UINT8 [N, {self.sides}], got {images.dtype} {list(images.shape)}")
        return images

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in order; a bad request gets its own error and its neighbours their answers."""
        responses: list[Any] = [None] * len(requests)
        good: list[tuple[int, np.ndarray]] = []
        for index, request in enumerate(requests):
            try:
                good.append((index, self._images(request)))
            except (ValueError, AttributeError) as error:
                responses[index] = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        if good:
            results = self.run(np.concatenate([images for _, images in good]))
            start = 0
            for index, images in good:
                stop = start + len(images)
                tensors = [pb_utils.Tensor(n, r[start:stop]) for n, r in zip(self.outputs, results, strict=True)]
                if self.contract is not None:
                    said = np.full((len(images), 1), self.contract, np.int64)
                    tensors.append(pb_utils.Tensor(_CONTRACT_OUTPUT, said))
                responses[index] = pb_utils.InferenceResponse(output_tensors=tensors)
                start = stop
        return responses
