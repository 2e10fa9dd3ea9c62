"""The files of a version: the graph in the precisions that are served and decide as torch does, with the parity."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from torch import nn

from training.evaluation.outcome import plain
from training.models.served import ServedBrand, ServedQuality
from training.models.spec import ModelSpec
from training.publish.export import MAX_BATCH, export
from training.publish.int8 import to_int8
from training.publish.parity import Parity, compare, torch_engine
from training.publish.precisions import plain_weights, rounded, stored_small, to_fp16
from training.serving.decision import decider
from training.serving.engines import ENGINES, ONNXRUNTIME, OPENVINO, OPENVINO_AVX2, outputs_of, outputs_on_avx2
from training.serving.files import FP16_FILE, FP32_FILE, INT8_FILE, TOLERANCES

#: Parity is measured on this many photos, int8 ranges on fewer.
PARITY_PHOTOS: Final = 1000
CALIBRATION_PHOTOS: Final = 256
_TORCH_BATCH: Final = 64
#: What a CPU serves; a GPU's engine is built from `FP16_FILE`.
CPU_FILES: Final = frozenset({INT8_FILE})
ALL_FILES: Final = CPU_FILES | {FP16_FILE}
#: The engines that each file must decide as torch in: OpenVINO serves on CPUs, int8 on those with and without VNNI.
_COMPARED_IN: Final = {FP32_FILE: (OPENVINO,), FP16_FILE: (ONNXRUNTIME,), INT8_FILE: (OPENVINO, OPENVINO_AVX2)}


@dataclass(frozen=True, slots=True)
class Bundle:
    """The content of a version directory besides its backend and its manifest."""

    model: onnx.ModelProto
    #: Other precisions that passed, by file name.
    variants: Mapping[str, onnx.ModelProto] = field(default_factory=dict)
    parity: tuple[Parity, ...] = ()

    @property
    def graphs(self) -> dict[str, onnx.ModelProto]:
        """Every graph by file name, float32 first."""
        return {FP32_FILE: self.model, **self.variants}

    @property
    def cpu(self) -> dict[str, str]:
        """Engine and file of the `cpu` configuration: int8 where it passed; ONNX Runtime where OpenVINO did not."""
        file = INT8_FILE if INT8_FILE in self.variants else FP32_FILE
        passed = all(row.passed for row in self.parity if row.file == file)
        return {"engine": OPENVINO if passed else ONNXRUNTIME, "file": file}

    def parity_json(self) -> list[dict[str, Any]]:
        """Every comparison, for the manifest."""
        rows: list[dict[str, Any]] = plain(self.parity)
        return rows


def make(  # noqa: PLR0917 - the parts of one export
    spec: ModelSpec,
    net: nn.Module,
    decision: Mapping[str, float],
    calibration: np.ndarray,
    photos: np.ndarray,
    wanted: Collection[str] = CPU_FILES,
) -> Bundle:
    """Exports a network in float32, its weights rounded to fp16 numbers, and in other precisions.

    Args:
        spec: The model's contract.
        net: Takes normalised floats, gives logits; as `deployable` made it.
        decision: Threshold and temperature.
        calibration: uint8 photos [N, S, S, 3] that int8 ranges are calibrated on; no test photos.
        photos: uint8 photos [N, S, S, 3] that parity is measured on.
        wanted: Names of the files besides the float32 one.

    Raises:
        ExportError: The float32 graph differs from torch. Other precisions that do are left out instead.
    """
    served = (ServedQuality if len(spec.outputs) == 2 else ServedBrand)(net, decision["temperature"]).eval()
    exact = export(served, tuple(name for name, _ in spec.outputs), photos[:MAX_BATCH])
    expected, decide = outputs_of(torch_engine(served), photos, _TORCH_BATCH), decider(decision)

    def compared(file: str, graph: onnx.ModelProto, engine: str) -> Parity:
        found = (
            outputs_on_avx2(graph, photos) if engine == OPENVINO_AVX2 else outputs_of(ENGINES[engine](graph), photos)
        )
        return compare(file, engine, expected, found, decide, TOLERANCES[file])

    model = stored_small(rounded(plain_weights(exact)))
    first = compared(FP32_FILE, model, ONNXRUNTIME)
    if not first.passed:
        model = exact
        first = compared(FP32_FILE, model, ONNXRUNTIME)
    rows, variants = [first, *(compared(FP32_FILE, model, engine) for engine in _COMPARED_IN[FP32_FILE])], {}
    for file in sorted(wanted):
        graph = to_int8(model, calibration[:CALIBRATION_PHOTOS]) if file == INT8_FILE else to_fp16(model)
        found = [compared(file, graph, engine) for engine in _COMPARED_IN[file]]
        rows += found
        if all(row.passed for row in found):
            variants[file] = graph
    return Bundle(model, variants, tuple(rows))
