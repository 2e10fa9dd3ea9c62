"""A published version alone, on one thread, without Triton: `engine.py VERSION_FOLDER SIDE BATCH SECONDS`.

Runs in the servers' environment, where nothing else of the project is. Prints images, seconds and CPU seconds as JSON.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


def backend() -> ModuleType:
    """What a version imports from Triton: a request is its tensor, a response its outputs or its error."""
    utils = ModuleType("triton_python_backend_utils")
    utils.get_input_tensor_by_name = lambda request, _name: request
    utils.Tensor = lambda _name, values: values
    utils.TritonError = RuntimeError
    utils.InferenceResponse = lambda output_tensors=(), error=None: error or output_tensors
    return utils


def served(folder: Path, side: int) -> Any:  # noqa: ANN401 - the class is in the version's folder
    """The version, as Triton loads it, with the engine that its manifest names; older manifests name none."""
    sys.modules["triton_python_backend_utils"] = backend()
    spec = importlib.util.spec_from_file_location("served", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    chosen = manifest.get("cpu", {"engine": "onnxruntime", "file": "model.onnx"})
    parameters = {"ENGINE": chosen["engine"], "MODEL_FILE": chosen["file"], "THREADS": "1"}
    config = {
        "input": [{"dims": [side, side, 3]}],
        "output": [],
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
    }
    model = module.TritonPythonModel()
    place = {"model_repository": str(folder.parent), "model_version": folder.name}
    model.initialize({"model_config": json.dumps(config), **place})
    return model


def main() -> None:
    folder, side, batch, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    model = served(folder, side)
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
    request = SimpleNamespace(as_numpy=lambda: images)
    for _ in range(3):
        (answer,) = model.execute([request])
        if isinstance(answer, RuntimeError):
            raise answer
    count, began, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        model.execute([request])
        count += batch
    print(json.dumps([count, time.perf_counter() - began, time.process_time() - used]))


if __name__ == "__main__":
    main()
