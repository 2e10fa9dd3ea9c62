"""The files of a version: the graph in every precision that decides as torch does, with the measured parity."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from torch import nn

from training.evaluation import brand
from training.evaluation.outcome import plain
from training.models.served import ServedBrand, ServedQuality
from training.models.spec import ModelSpec
from training.publish.export import export
from training.publish.parity import (
    ENGINES,
    ONNXRUNTIME,
    OPENVINO,
    TOLERANCES,
    Parity,
    compare,
    outputs_of,
    torch_engine,
)
from training.publish.precisions import FP16_FILE, FP32_FILE, INT8_FILE, to_fp16, to_int8
from training.statistics import Ints

#: Parity is measured on this many photos, int8 ranges on fewer.
PARITY_PHOTOS: Final = 1000
CALIBRATION_PHOTOS: Final = 256
_TORCH_BATCH: Final = 64
#: The engine that serves each file on a CPU, whose agreement decides; the others are recorded.
_SERVED_BY: Final = {FP32_FILE: ONNXRUNTIME, FP16_FILE: ONNXRUNTIME, INT8_FILE: OPENVINO}


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
        """Engine and file of the `cpu` configuration: int8 where it passed."""
        file = INT8_FILE if INT8_FILE in self.variants else FP32_FILE
        return {"engine": _SERVED_BY[file], "file": file}

    def parity_json(self) -> list[dict[str, Any]]:
        """Every comparison, for the manifest."""
        rows: list[dict[str, Any]] = plain(self.parity)
        return rows


def decider(decision: Mapping[str, float]) -> Callable[[list[np.ndarray]], Ints]:
    """The service's decision of a model's outputs: a brand's index or the last for none, or 1 for good."""
    if "good_threshold" in decision:
        return lambda outputs: (outputs[0][:, 0] >= decision["good_threshold"]).astype(np.int64)
    return lambda outputs: brand.decided(outputs[0], decision["threshold"])


def make(
    spec: ModelSpec, net: nn.Module, decision: Mapping[str, float], calibration: np.ndarray, photos: np.ndarray
) -> Bundle:
    """Exports a network in every precision.

    Args:
        spec: The model's contract.
        net: Takes normalised floats, gives logits; as `deployable` made it.
        decision: Threshold and temperature.
        calibration: uint8 photos [N, S, S, 3] that int8 ranges are calibrated on; no test photos.
        photos: uint8 photos [N, S, S, 3] that parity is measured on.

    Raises:
        ExportError: The float32 graph differs from torch. Other precisions that do are left out instead.
    """
    served = (ServedQuality if len(spec.outputs) == 2 else ServedBrand)(net, decision["temperature"]).eval()
    model = export(served, tuple(name for name, _ in spec.outputs), photos)
    graphs = {
        FP32_FILE: model,
        FP16_FILE: to_fp16(model),
        INT8_FILE: to_int8(model, calibration[:CALIBRATION_PHOTOS]),
    }
    expected = outputs_of(torch_engine(served), photos, _TORCH_BATCH)
    decide = decider(decision)
    rows = [
        compare(file, engine, expected, outputs_of(ENGINES[engine](graph), photos), decide, TOLERANCES[file])
        for file, graph in graphs.items()
        for engine in (ONNXRUNTIME, OPENVINO)
    ]
    passed = {row.file for row in rows if row.passed and row.engine == _SERVED_BY[row.file]}
    variants = {file: graph for file, graph in graphs.items() if file in passed and file != FP32_FILE}
    return Bundle(model, variants, tuple(rows))
