"""Whether an engine answers the golden photos of its version as the published float32 graph does."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from training.engine.source import Source
from training.errors import DataError, GateRefused, ToolMissing
from training.serving.decision import decider
from training.serving.files import LEAST_AGREEMENT

#: uint8 [N, S, S, 3] to outputs by name.
Answer = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def golden_images(source: Source) -> np.ndarray:
    """The golden photos, which have the model's own size: uint8 [N, S, S, 3].

    Raises:
        DataError: One cannot be read.
        ToolMissing: Pillow is missing.
    """
    photos: list[Mapping[str, Any]] = source.manifest["golden"]["photos"]
    return np.stack([_pixels(source.folder / photo["file"]) for photo in photos])


def _pixels(path: Path) -> np.ndarray:
    try:
        from PIL import Image  # noqa: PLC0415 - nothing else of the builder needs it
    except ImportError:
        raise ToolMissing("the golden photos need Pillow: pip install pillow") from None
    try:
        with Image.open(io.BytesIO(path.read_bytes()), formats=("JPEG",)) as picture:
            return np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise DataError(f"the golden photo {path} cannot be read: {error.strerror or error}") from None


def check_answers(source: Source, answer: Answer) -> dict[str, float]:
    """Compares an engine's answers, alone, beside each other and in the largest batch, with the manifest's.

    Returns:
        How many photos, the largest difference and its bound, for the record.

    Raises:
        GateRefused: An output is farther away than the bound, or decisions agree on fewer photos than publishing asks.
        DataError: A photo cannot be read.
    """
    images, tolerance = golden_images(source), source.tolerance
    photos = source.manifest["golden"]["photos"]
    names = list(photos[0]["outputs"])
    expected = [np.array([photo["outputs"][name] for photo in photos]) for name in names]
    decide = decider(source.manifest["calibration"])
    worst = 0.0
    for found in _answers(images, answer, source.recipe.batches[-1]):
        for name, want in zip(names, expected, strict=True):
            if name not in found or found[name].shape != want.shape:
                raise GateRefused(f"the engine of {source.name} has no output {name} of {want.shape[1]} values")
        got = [found[name].astype(np.float64) for name in names]
        apart = float(np.max([np.abs(want - has).max() for want, has in zip(expected, got, strict=True)]))
        # NaN is no number that a bound could hold, and no comparison with it is true.
        if not apart <= tolerance:
            raise GateRefused(
                f"the engine of {source.name} answers {apart:.2g} away from the published graph, at most {tolerance:g}"
            )
        agreement = float((decide(expected) == decide(got)).mean())
        if agreement < LEAST_AGREEMENT:
            raise GateRefused(f"the engine of {source.name} decides as published on {agreement:.1%} of the photos")
        worst = max(worst, apart)
    return {"photos": len(images), "largest_difference": worst, "tolerance": tolerance}


def _answers(images: np.ndarray, answer: Answer, most: int) -> list[Mapping[str, np.ndarray]]:
    """Answers to the same photos in batches of one, in batches as large as they come, and in the largest one."""
    whole = np.concatenate([images] * (most // len(images) + 1))[:most]
    runs: list[Mapping[str, np.ndarray]] = []
    for batch, seen in ((1, images), (min(len(images), most), images), (most, whole)):
        parts = [answer(seen[start : start + batch]) for start in range(0, len(seen), batch)]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if len(seen) >= len(images):
            runs.append({name: values[: len(images)] for name, values in joined.items()})
    return runs
