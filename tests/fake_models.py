"""A model repository whose answers a test can predict: brightness is quality, the dominant colour is the brand.

The models run on the real tritonserver (python backend) and need numpy alone, so they load in a second.
"""

import json
from pathlib import Path
from typing import Literal

from consumer.contract import CONTRACT_OUTPUT, Geometry, contract_id, label_checksum

BRANDS = ("crimson", "azure", "no_logo")
SIZE = 32
GOOD_THRESHOLD = 0.5
BRAND_THRESHOLD = 0.6
Contract = Literal["unsaid", "announced", "said"]

_MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        FIRST
        return [pb_utils.InferenceResponse(tensors(pb_utils.get_input_tensor_by_name(r, "images").as_numpy()))
                for r in requests]

def tensors(images):
    *batch, height, width, channels = images.shape
    answers = answer(images.reshape(-1, height, width, channels))
    told = [pb_utils.Tensor(name, rows.reshape(*batch, -1)) for name, rows in answers.items()]
    return told + [pb_utils.Tensor("contract_id", np.full((*batch, 1), said)) for said in SAYS]

def quality(images):
    score = images.reshape(len(images), -1).mean(1, keepdims=True).astype(np.float32) / 255
    levels = np.zeros((len(images), 5), np.float32)
    levels[:, 4] = 1
    return {"quality_score": score, "quality_levels": levels}

def brand(images):
    red, _, blue = (images.reshape(len(images), -1, 3).mean(1) / 255).T
    crimson, azure = np.clip(red - blue, 0, 1), np.clip(blue - red, 0, 1)
    probs = np.stack([crimson, azure, *[0 * red] * OTHERS, 1 - crimson - azure], 1).astype(np.float32)
    return {"brand_probs": probs}

answer = ANSWER
"""


def write_repository(
    folder: Path,
    *,
    version: int = 1,
    quality: dict[str, str] | None = None,
    brand: dict[str, str] | None = None,
    brands: tuple[str, ...] = BRANDS,
    size: int = SIZE,
    brand_size: int | None = None,
    first: str = "pass",
    max_batch_sizes: tuple[int, int] = (8, 8),
    contract: Contract = "unsaid",
) -> Path:
    """Writes both models; `quality` and `brand` override parameters of their configuration ("" removes one).

    `size` is the input of both, or of quality alone where there is a `brand_size`. `first` is a statement that both
    models run before they answer `requests`. `max_batch_sizes` are those of quality and brand, 0 for a model without
    batches. Their answers say under which contract they are made where that is `said`; where it is `announced`, only
    their configuration has the output.
    """
    outputs = {
        "photo_quality": {"quality_score": 1, "quality_levels": 5},
        "brand_logo": {"brand_probs": len(brands)},
    }
    labels = {"photo_quality": ("1", "2", "3", "4", "5"), "brand_logo": brands}
    decisions = {
        "photo_quality": {"good_threshold": GOOD_THRESHOLD},
        "brand_logo": {"threshold": BRAND_THRESHOLD},
    }
    overrides = {"photo_quality": quality or {}, "brand_logo": brand or {}}
    sides = (size, size if brand_size is None else brand_size)
    for (model, dims), side, max_batch_size in zip(outputs.items(), sides, max_batch_sizes, strict=True):
        parameters = {
            "input_size": str(side),
            "resize_rule": "short-side-center-crop",
            "resize_short_side": str(side),
            "labels": json.dumps(labels[model]),
            "label_checksum": label_checksum(labels[model]),
            f"decision.{version}": json.dumps(decisions[model]),
            **overrides[model],
        }
        kept = {key: value for key, value in parameters.items() if value}
        said = [contract_id(labels[model], Geometry(side, side))] if contract == "said" else []
        _write_config(folder / model, dims, kept, side, max_batch_size, announces=contract != "unsaid")
        code = _MODEL.replace("FIRST", first).replace("OTHERS", str(len(brands) - len(BRANDS)))
        code = code.replace("SAYS", str(said))
        (folder / model / str(version)).mkdir(exist_ok=True)
        function = "quality" if model == "photo_quality" else "brand"
        path = folder / model / str(version) / "model.py"
        path.write_text(code.replace("ANSWER", function), encoding="utf-8")
    return folder


def _write_config(
    folder: Path, dims: dict[str, int], parameters: dict[str, str], size: int, max_batch: int, *, announces: bool
) -> None:
    lines = [
        f'name: "{folder.name}"',
        'backend: "python"',
        f"max_batch_size: {max_batch}",
        f'input [ {{ name: "images" data_type: TYPE_UINT8 dims: [ {size}, {size}, 3 ] }} ]',
        *(f'output [ {{ name: "{name}" data_type: TYPE_FP32 dims: [ {count} ] }} ]' for name, count in dims.items()),
        *([f'output [ {{ name: "{CONTRACT_OUTPUT}" data_type: TYPE_INT64 dims: [ 1 ] }} ]'] if announces else []),
        "instance_group [ { kind: KIND_CPU count: 2 } ]",
        *(
            f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value)} }} }}'
            for key, value in parameters.items()
        ),
    ]
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "configs" / "cpu.pbtxt").write_text("\n".join(lines), encoding="utf-8")
