"""Rates and answers of one version in one engine: TensorRT, torch on a GPU, or ONNX Runtime or torch on the CPU."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.engine.accuracy import Answer, check_answers
from training.engine.source import Source
from training.errors import GateRefused


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured; rates are photos a second."""

    model: str
    version: int
    engine: str
    batch: int
    #: With the pixels copied to where they are computed on, and the answers back.
    photos_per_s: float
    #: Of pixels that are there already; None where that is the same.
    computed_per_s: float | None
    largest_difference: float | None
    tolerance: float
    #: Why its answers may not be served; empty where they may.
    refused: str = ""


def rate(run: Callable[[], object], photos: int, seconds: float, wait: Callable[[], object] | None = None) -> float:
    """Photos a second of a call, after three that warm it up; `wait` returns when started calls are done."""
    done = wait or (lambda: None)
    for _ in range(3):
        run()
    done()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for _ in range(10 if wait else 1):
            run()
            count += photos
        done()
    return count / (time.perf_counter() - began)


def judged(source: Source, answer: Answer) -> tuple[float | None, str]:
    """How far the answers to the golden photos are from the published ones, or why they may not be served."""
    try:
        return check_answers(source, answer)["largest_difference"], ""
    except GateRefused as error:
        return None, str(error)


def photos_of(source: Source, batch: int) -> np.ndarray:
    """Random photos of the model's size."""
    side = int(source.manifest["training"]["recipe"]["model"]["input_px"])
    return np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)


def measured(  # noqa: PLR0917 - the parts of one measurement
    source: Source,
    engine: str,
    answer: Answer,
    batch: int,
    seconds: float,
    compute: Callable[[np.ndarray], tuple[Callable[[], object], Callable[[], object]]] | None = None,
) -> Row:
    """Rates with random photos of the model's size, and the answers to the golden ones."""
    difference, refused = judged(source, answer)
    images = photos_of(source, batch)
    whole = rate(lambda: answer(images), batch, seconds)
    alone = None
    if compute is not None:
        run, wait = compute(images)
        alone = round(rate(run, batch, seconds, wait), 1)
    return Row(
        source.model, source.version, engine, batch, round(whole, 1), alone, difference, source.tolerance, refused
    )
