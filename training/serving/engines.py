"""The engines that serve a graph on a CPU, on one thread each; without torch, since one runs in its own process."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from training.errors import ExportError

ONNXRUNTIME, OPENVINO, OPENVINO_AVX2 = "onnxruntime", "openvino", "openvino on AVX2"
_BATCH: Final = 8
#: oneDNN, which computes OpenVINO's convolutions, reads it once, before it first computes.
_LIMIT: Final = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
_MODEL, _PHOTOS, _OUTPUTS = "model.onnx", "photos.npy", "outputs.npz"

#: uint8 [N, S, S, 3] to the outputs of a graph, in its order.
Engine = Callable[[np.ndarray], list[np.ndarray]]


def onnxruntime_engine(model: onnx.ModelProto) -> Engine:
    """The graph in ONNX Runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda images: [np.asarray(output) for output in session.run(None, {"images": images})]


def openvino_engine(model: onnx.ModelProto) -> Engine:
    """The graph in OpenVINO, set up as in `serving/model.py`."""
    import openvino  # noqa: PLC0415 - loads in a second, and only exports need it

    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)
    request = compiled.create_infer_request()

    def run(images: np.ndarray) -> list[np.ndarray]:
        answers = request.infer({"images": images})
        return [np.array(answers[output]) for output in compiled.outputs]

    return run


ENGINES: Final = {ONNXRUNTIME: onnxruntime_engine, OPENVINO: openvino_engine}


def outputs_of(engine: Engine, images: np.ndarray, batch: int = _BATCH) -> list[np.ndarray]:
    """Outputs for any number of photos, by default in batches as they are served."""
    parts = [engine(images[start : start + batch]) for start in range(0, len(images), batch)]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def outputs_on_avx2(model: onnx.ModelProto, images: NDArray[np.uint8]) -> list[np.ndarray]:
    """Outputs of OpenVINO as on a CPU with AVX2 and nothing newer, in a process of its own.

    On other CPUs than x86-64 it is what OpenVINO gives there.

    Raises:
        ExportError: The process failed.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / _MODEL).write_bytes(model.SerializeToString())
        np.save(folder / _PHOTOS, images)
        argv = [sys.executable, "-m", "training.serving.engines", place]
        done = subprocess.run(argv, env=os.environ | _LIMIT, capture_output=True, text=True, check=False)  # noqa: S603 - this module
        if done.returncode:
            raise ExportError(f"OpenVINO limited to AVX2 ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        with np.load(folder / _OUTPUTS) as outputs:
            return [outputs[name] for name in outputs.files]


def _main(folder: Path) -> None:
    engine = openvino_engine(onnx.load(folder / _MODEL))
    np.savez(folder / _OUTPUTS, *outputs_of(engine, np.load(folder / _PHOTOS)))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
