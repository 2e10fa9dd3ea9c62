"""Parity: every file of a version must decide what torch decides, on real photos, in the engine that serves it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from training.publish.precisions import FP16_FILE, FP32_FILE, INT8_FILE
from training.statistics import Ints

#: Share of photos on which a variant must decide as torch does.
LEAST_AGREEMENT: Final = 0.995
#: Largest difference of any output from torch's, by file. int8 changes single probabilities a lot where two classes are
#: close; its decisions count.
TOLERANCES: Final = {FP32_FILE: 1e-4, FP16_FILE: 2e-2, INT8_FILE: float("inf")}
_BATCH: Final = 8
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"

#: uint8 [N, S, S, 3] to the outputs of a graph, in its order.
Engine = Callable[[np.ndarray], list[np.ndarray]]
#: Outputs of a graph to one class index a photo.
Decide = Callable[[list[np.ndarray]], Ints]


@dataclass(frozen=True, slots=True)
class Parity:
    """One variant in one engine against torch."""

    file: str
    engine: str
    photos: int
    agreement: float
    max_abs_difference: float
    passed: bool


def onnxruntime_engine(model: onnx.ModelProto) -> Engine:
    """The graph in ONNX Runtime on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda images: [np.asarray(output) for output in session.run(None, {"images": images})]


def openvino_engine(model: onnx.ModelProto) -> Engine:
    """The graph in OpenVINO on one thread, set up as in `serving/model.py`."""
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


def torch_engine(model: nn.Module) -> Engine:
    """A served model in torch; it gives one tensor or a tuple of them."""

    @torch.no_grad()
    def run(images: np.ndarray) -> list[np.ndarray]:
        found = model(torch.from_numpy(images))
        return [value.numpy() for value in (found if isinstance(found, tuple) else (found,))]

    return run


def outputs_of(engine: Engine, images: np.ndarray, batch: int = _BATCH) -> list[np.ndarray]:
    """Outputs for any number of photos, by default in batches as they are served."""
    parts = [engine(images[start : start + batch]) for start in range(0, len(images), batch)]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def difference(expected: list[np.ndarray], found: list[np.ndarray]) -> float:
    """The largest absolute difference of any output."""
    return max(float(np.abs(want - got).max()) for want, got in zip(expected, found, strict=True))


def compare(  # noqa: PLR0917 - the parts of one comparison
    file: str, engine: str, expected: list[np.ndarray], found: list[np.ndarray], decide: Decide, tolerance: float
) -> Parity:
    """How far a variant's outputs are from torch's, and whether it may be published.

    Args:
        file: Name of the variant's file.
        engine: What ran it.
        expected: Outputs of torch.
        found: Outputs of the variant, for the same photos.
        decide: The decision of outputs.
        tolerance: Largest difference of any output that passes.
    """
    agreement, worst = float((decide(expected) == decide(found)).mean()), difference(expected, found)
    passed = agreement >= LEAST_AGREEMENT and worst <= tolerance
    return Parity(file, engine, len(found[0]), agreement, worst, passed)
