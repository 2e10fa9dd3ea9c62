"""Golden photos of a version: a few photos with its answers to them, to check it wherever it is served.

They are sample photos that anybody may pass on: drawn, or from pictures in the public domain or under CC0, none of a
person. Encoded at the model's own size, they are seen by every decoder without a resize.
"""

import io
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from training.data.decode import Decoded, Geometry, decode, square
from training.data.samples import SAMPLES, compose_sample
from training.models.spec import ModelSpec
from training.publish.bundle import Bundle
from training.publish.parity import difference
from training.serving.engines import ENGINES, ONNXRUNTIME, OPENVINO, outputs_of
from training.serving.files import FP16_FILE, FP32_FILE, PLAN_FILE, TOLERANCES

FOLDER: Final = "golden"
_QUALITY: Final = 90
_DIGITS: Final = 6
#: With a brand's mark, another one and none; dark, blurred, noisy, tiny and undamaged; photographed and drawn.
_CHOSEN: Final = frozenset(
    {
        "cafe-starbucks.jpg", "cafe-dark-apple.jpg", "cafe-other-mark.jpg", "cat-blurred-adidas.jpg", "cat-clean.jpg",
        "city-lights-playstation.jpg", "launch-noisy-volkswagen.jpg", "launch-thumbnail.jpg",
    }
)  # fmt: skip


@cache
def photos(size: int) -> Mapping[str, bytes]:
    """The golden photos by file name: JPEG files of `size` px on each side."""
    return {sample.file: _encoded(compose_sample(sample), size) for sample in SAMPLES if sample.file in _CHOSEN}


def _encoded(picture: Image.Image, size: int) -> bytes:
    stream = io.BytesIO()
    seen = square(Decoded(picture, *picture.size), Geometry(size, size))
    Image.fromarray(seen).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def write_photos(size: int, version: Path) -> None:
    """Writes the golden photos into a folder of a version that is being staged."""
    (version / FOLDER).mkdir()
    for name, body in photos(size).items():
        (version / FOLDER / name).write_bytes(body)


def answers(spec: ModelSpec, bundle: Bundle) -> dict[str, Any]:
    """For the manifest: what the float32 graph answers to each photo, and how far each served file may be from it."""
    bodies, geometry = photos(spec.input_px), Geometry(spec.input_px, spec.input_px)
    images = np.stack([square(decode(body, spec.input_px), geometry) for body in bodies.values()])
    expected = outputs_of(ENGINES[ONNXRUNTIME](bundle.model), images)
    names = [output.name for output in bundle.model.graph.output]
    rows = [
        {
            "file": f"{FOLDER}/{file}",
            "outputs": {
                name: [round(float(value), _DIGITS) for value in values[index]]
                for name, values in zip(names, expected, strict=True)
            },
        }
        for index, file in enumerate(bodies)
    ]
    tolerances = {file: _tolerance(bundle, file, expected, images) for file in bundle.graphs}
    # An engine for GPUs computes in fp16, whichever file it is built from.
    tolerances[PLAN_FILE] = TOLERANCES[FP16_FILE]
    return {"photos": rows, "tolerances": tolerances}


def _tolerance(bundle: Bundle, file: str, expected: list[np.ndarray], images: np.ndarray) -> float:
    """The largest difference of an output that parity allows; where it allows any, what was measured, and a little."""
    if math.isfinite(TOLERANCES[file]):
        return TOLERANCES[file]
    seen = [row.max_abs_difference for row in bundle.parity if row.file == file]
    here = difference(expected, outputs_of(ENGINES[OPENVINO](bundle.graphs[file]), images))
    return round(max(here, *seen, 0.0) + TOLERANCES[FP32_FILE], _DIGITS)
