"""The gate: what a version must reach to be published, and that it is not worse than the champion.

A refusal can be overruled with a reason, which the manifest keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from training.evaluation import brand
from training.evaluation.compare import differences
from training.evaluation.decide import View
from training.evaluation.outcome import Evaluation
from training.statistics import Texts, wilson

#: Expected calibration error, and share of no-logo photos tagged at the threshold, that a version may have.
_MOST_CALIBRATION_ERROR: Final = 0.03
_MOST_NO_LOGO_TAGGED: Final = 0.01
#: Figures that are compared with the champion's, and whether more is better.
_COMPARED: Final = {
    "brand": {
        "accuracy": True,
        "macro_recall": True,
        "tagged_precision": True,
        "tagged_recall": True,
        "tagged_fpr_no_logo": False,
    },
    "quality": {"srcc": True, "auc": True, "binary_accuracy": True},
}
_BASELINE_FIGURE: Final = {"brand": "accuracy", "quality": "auc"}


@dataclass(frozen=True, slots=True)
class Check:
    """One check and its outcome."""

    name: str
    passed: bool
    detail: str
    #: Whether more training would pass it: the version is worse than it could be, not useless.
    minor: bool = False


@dataclass(frozen=True, slots=True)
class GateDecision:
    """All checks; a version passes when every one does."""

    checks: tuple[Check, ...]
    #: The version that it was compared with; None for the first.
    champion: int | None = None

    @property
    def refusals(self) -> tuple[str, ...]:
        """The failed checks."""
        return tuple(f"{check.name}: {check.detail}" for check in self.checks if not check.passed)

    @property
    def minor_refusals(self) -> tuple[str, ...]:
        """The failed checks that more training would pass."""
        return tuple(f"{check.name}: {check.detail}" for check in self.checks if not check.passed and check.minor)

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "champion": self.champion,
            "checks": [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in self.checks],
        }


def absolute(evaluation: Evaluation, leaks: Mapping[str, Any]) -> list[Check]:
    """The checks that do not depend on a published version.

    A figure fails only when its whole interval does, so that a small test set refuses nothing by chance.
    """
    checks = [
        _beats_baselines(evaluation),
        _calibrated(evaluation),
        Check(
            "every class is predicted",
            not any("never predicted" in alarm for alarm in evaluation.alarms),
            ", ".join(alarm for alarm in evaluation.alarms if "never predicted" in alarm) or "yes",
        ),
        _no_leaks(leaks),
    ]
    if evaluation.verified is not None and evaluation.test is not None:
        quiet = int((evaluation.test.labels == len(evaluation.labels) - 1).sum())
        low = wilson(round(np.nan_to_num(evaluation.verified.no_logo_rate) * quiet), quiet).low
        detail = f"{evaluation.verified.no_logo_rate:.2%} of {quiet}, at most {_MOST_NO_LOGO_TAGGED:.0%}"
        checks.append(Check("no-logo photos tagged", low <= _MOST_NO_LOGO_TAGGED, detail))
    return checks


def _beats_baselines(evaluation: Evaluation) -> Check:
    name = _BASELINE_FIGURE[evaluation.kind]
    figure = evaluation.figures[name]
    rivals = {other: value for other, value in figure.baselines.items() if np.isfinite(value)}
    best = max(rivals.values(), default=0.5)
    detail = f"{name} {figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f}), the best baseline {best:.3f}"
    return Check("better than the baselines", figure.low > best, detail)


def _calibrated(evaluation: Evaluation) -> Check:
    """A bootstrap interval would not do: the error is a sum of absolute values, which chance only makes larger."""
    error, chance = evaluation.figures["calibration_error"].value, evaluation.error_by_chance
    limit = max(_MOST_CALIBRATION_ERROR, chance)
    detail = f"ECE {error:.3f}, at most {_MOST_CALIBRATION_ERROR:g}"
    if chance > _MOST_CALIBRATION_ERROR:
        detail += f", or {chance:.3f}, which a perfectly calibrated model may have on so few photos"
    return Check("calibration", error <= limit, detail, minor=True)


def _no_leaks(leaks: Mapping[str, Any]) -> Check:
    left = leaks.get("left", 0)
    count = len(left) if isinstance(left, list) else int(left)
    return Check("no photo in two splits", count == 0, f"{count} left")


def against_champion(challenger: View, champion: View, groups: Texts, version: int) -> list[Check]:
    """The challenger's figures minus the champion's on the same photos, with paired bootstrap intervals.

    A figure is refused when the whole interval of the difference lies on the worse side.
    """
    compared = _COMPARED["brand" if isinstance(challenger, brand.BrandView) else "quality"]
    checks = []
    for name, found in differences(challenger, champion, groups, list(compared)).items():
        worse = found.high < 0 if compared[name] else found.low > 0
        detail = f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}) against version {version}"
        checks.append(Check(f"{name.replace('_', ' ')} not worse", not worse, detail, minor=True))
    return checks
