"""Triton's python backend for one version directory: ONNX Runtime on the CPU, one run for a whole batch of requests.

Triton copies nothing: it executes this file from the version directory, so it may import only numpy and onnxruntime.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

# Its wheels report usage over the network and leave files in the temporary folder unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Serves `images` UINT8 [N, H, W, 3]; outputs are those of the ONNX graph, in its order."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the graph named by the parameter MODEL_FILE with THREADS threads."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("THREADS", "1"))
        options.inter_op_num_threads = 1
        path = Path(args["model_repository"]) / args["model_version"] / parameters.get("MODEL_FILE", "model.onnx")
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.sides = tuple(config["input"][0]["dims"])

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
            results = self.session.run(self.outputs, {"images": np.concatenate([images for _, images in good])})
            start = 0
            for index, images in good:
                stop = start + len(images)
                tensors = [pb_utils.Tensor(n, r[start:stop]) for n, r in zip(self.outputs, results, strict=True)]
                responses[index] = pb_utils.InferenceResponse(output_tensors=tensors)
                start = stop
        return responses
