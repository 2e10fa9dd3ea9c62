"""From a run to the files of a version: the graph in every precision that decides as torch does, with the proof."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
import torch
from torch import nn

from training.evaluation.outcome import plain
from training.models.served import ServedBrand, ServedQuality
from training.models.spec import ModelSpec
from training.publish.export import Exported, export
from training.publish.parity import ENGINES, ONNXRUNTIME, OPENVINO, TOLERANCES, Parity, compare, outputs_of
from training.publish.precisions import FP16_FILE, FP32_FILE, INT8_FILE, to_fp16, to_int8
from training.statistics import Ints

#: Parity is measured on this many photos, int8 ranges on fewer.
PARITY_PHOTOS: Final = 1000
CALIBRATION_PHOTOS: Final = 256
#: The engine that serves each file on a CPU, whose agreement decides; others are recorded.
_SERVED_BY: Final = {FP32_FILE: ONNXRUNTIME, FP16_FILE: ONNXRUNTIME, INT8_FILE: OPENVINO}


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a version directory will hold besides its backend and its manifest."""

    exported: Exported
    #: Other precisions that passed, by file name.
    variants: Mapping[str, onnx.ModelProto] = field(default_factory=dict)
    parity: tuple[Parity, ...] = ()

    @property
    def cpu(self) -> dict[str, str]:
        """Engine and file of the `cpu` configuration: int8 where it passed."""
        file = INT8_FILE if INT8_FILE in self.variants else FP32_FILE
        return {"engine": _SERVED_BY[file], "file": file}

    def parity_json(self) -> list[dict[str, Any]]:
        """Every comparison, for the manifest."""
        rows: list[dict[str, Any]] = plain(self.parity)
        return rows


def decider(spec: ModelSpec, decision: Mapping[str, float]) -> Callable[[list[np.ndarray]], Ints]:
    """What a model's outputs decide, as the service does: a brand's index or the last, or 1 for good."""
    if "good_threshold" in decision:
        return lambda outputs: (outputs[0][:, 0] >= decision["good_threshold"]).astype(np.int64)
    none = len(spec.labels) - 1

    def brand(outputs: list[np.ndarray]) -> Ints:
        probabilities = outputs[0][:, :none]
        return np.where(probabilities.max(1) >= decision["threshold"], probabilities.argmax(1), none)

    return brand


def served(spec: ModelSpec, net: nn.Module, temperature: float) -> nn.Module:
    """The network as it is served: raw pixels in, probabilities out."""
    wrapper = ServedQuality if len(spec.outputs) == 2 else ServedBrand
    return wrapper(net, temperature).eval()


@torch.no_grad()
def torch_outputs(model: nn.Module, images: np.ndarray, batch: int = 64) -> list[np.ndarray]:
    """Outputs of a served model, one array an output."""
    parts = []
    for start in range(0, len(images), batch):
        found = model(torch.from_numpy(images[start : start + batch]))
        parts.append([value.numpy() for value in (found if isinstance(found, tuple) else (found,))])
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def make(
    spec: ModelSpec, net: nn.Module, decision: Mapping[str, float], calibration: np.ndarray, photos: np.ndarray
) -> Bundle:
    """Exports a network in every precision.

    Args:
        spec: The model's contract.
        net: Takes normalised floats, gives logits; as `deployable` made it.
        decision: Threshold and temperature.
        calibration: uint8 photos that int8 ranges are taken from; not those of the test.
        photos: uint8 photos that parity is measured on.

    Raises:
        ExportError: The fp32 graph itself is not what torch computes. Other precisions are left out instead.
    """
    model = served(spec, net, decision["temperature"])
    exported = export(model, tuple(name for name, _ in spec.outputs), photos)
    graphs = {
        FP32_FILE: exported.model,
        FP16_FILE: to_fp16(exported.model),
        INT8_FILE: to_int8(exported.model, calibration[:CALIBRATION_PHOTOS]),
    }
    expected = torch_outputs(model, photos)
    decide = decider(spec, decision)
    rows = [
        compare(file, engine, expected, outputs_of(ENGINES[engine](graph), photos), decide, TOLERANCES[file])
        for file, graph in graphs.items()
        for engine in (ONNXRUNTIME, OPENVINO)
    ]
    passed = {row.file for row in rows if row.passed and row.engine == _SERVED_BY[row.file]}
    variants = {file: graph for file, graph in graphs.items() if file in passed and file != FP32_FILE}
    return Bundle(exported, variants, tuple(rows))
