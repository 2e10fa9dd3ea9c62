"""The result of an evaluation: one value that the report, the card, the gate and metrics.json are made from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import numpy as np

from training.evaluation.answers import Answers, Figure
from training.evaluation.apart import Apart
from training.evaluation.brand import BrandRow
from training.evaluation.damage import PairedDamage
from training.evaluation.robustness import Flips
from training.evaluation.slices import Part
from training.evaluation.thresholds import Choice, Tagging
from training.statistics import Ints, Reliability


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of the probabilities on test photos, before and after the temperature that was fitted on val."""

    temperature: float
    before: Reliability
    after: Reliability
    brier_before: float
    brier_after: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """A photo that the model is wrong about with high confidence."""

    id: str
    truth: str
    said: str
    #: The model's confidence, or by how many levels it missed.
    badness: float
    pixels: np.ndarray


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that the report, the card, the gate and metrics.json are made from."""

    kind: str = ""
    labels: tuple[str, ...] = ()
    #: Photos of val, test and foreign.
    photos: Mapping[str, int] = field(default_factory=dict)
    #: What a config's `decision.<version>` gets: threshold (or good_threshold) and temperature.
    decision: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    calibration: Calibration | None = None
    #: `statistics.error_by_chance` of the test photos.
    error_by_chance: float = 0.0
    #: The figures on test photos that share a scene, a series or an uploader with training, and on the others.
    apart: Apart | None = None
    #: [true, predicted] by argmax.
    confusion: Ints | None = None
    slices: tuple[Part, ...] = ()
    flips: tuple[Flips, ...] = ()
    #: Whether robustness was measured on the photos' own files.
    flips_on_originals: bool = False
    #: Quality models only: photos against their damaged copies.
    paired: PairedDamage | None = None
    mistakes: tuple[Mistake, ...] = ()
    alarms: tuple[str, ...] = ()
    drift: Mapping[str, Any] = field(default_factory=dict)
    #: Brand models only: a row each, the threshold as val chose it, what it does on test, other thresholds on test.
    rows: tuple[BrandRow, ...] = ()
    choice: Choice | None = None
    verified: Tagging | None = None
    sweep: tuple[Tagging, ...] = ()
    foreign: Mapping[str, float] = field(default_factory=dict)
    #: Test answers, for figures that draw every photo.
    test: Answers | None = None

    def as_json(self) -> dict[str, Any]:
        """metrics.json: everything but pictures and single predictions; nan becomes null."""
        left_out = {"mistakes", "test", "sweep"}
        values = {name: getattr(self, name) for name in self.__slots__ if name not in left_out}
        made: dict[str, Any] = plain(values)
        made["mistakes"] = [{"id": m.id, "truth": m.truth, "said": m.said} for m in self.mistakes]
        for name in ("before", "after"):
            made["calibration"][f"calibration_error_{name}"] = plain(getattr(self.calibration, name).error)
        return made


def plain(value: Any) -> Any:  # noqa: ANN401 - JSON is any value
    """A value as JSON has it; nan and infinity become null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain({name: getattr(value, name) for name in value.__dataclass_fields__})
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
