"""The decision that a model is served with: temperature and threshold, chosen on val."""

from collections.abc import Mapping

import numpy as np

from training.evaluation import brand, quality
from training.evaluation.answers import Answers
from training.evaluation.thresholds import Choice, Target, choose
from training.statistics import fit_temperature

#: Predictions for labelled photos, at a threshold.
View = brand.BrandView | quality.QualityView


def brand_choice(val: Answers, target: Target) -> tuple[float, Choice]:
    """The temperature with the least log loss, and the lowest threshold that reaches the target."""
    temperature = fit_temperature(val.logits, val.labels)
    seen = brand.view(val, temperature, 0.0)
    branded = seen.labels != seen.no_logo
    return temperature, choose(seen.score, seen.brand == seen.labels, branded, seen.ordinary, target)


def quality_choice(val: Answers) -> tuple[float, float]:
    """The temperature with the least log loss, and the score that tells good from poor best."""
    temperature = fit_temperature(val.logits, val.labels)
    return temperature, quality.best_threshold(quality.view(val, temperature, 0.0))


def decision_of(kind: str, val: Answers, target: Target) -> dict[str, float]:
    """What a config's `decision.<version>` gets: temperature, and threshold or good_threshold."""
    if kind == "brand":
        temperature, choice = brand_choice(val, target)
        return {"threshold": choice.tagging.threshold, "temperature": temperature}
    temperature, threshold = quality_choice(val)
    return {"good_threshold": threshold, "temperature": temperature}


def view_of(kind: str, answers: Answers, decision: Mapping[str, float]) -> View:
    """Answers under a decision."""
    if kind == "brand":
        return brand.view(answers, decision["temperature"], decision["threshold"])
    return quality.view(answers, decision["temperature"], decision["good_threshold"])


def point_values(view: View) -> dict[str, float]:
    """Every headline value of the photos of a view; recall is averaged over the brands that they show."""
    if isinstance(view, quality.QualityView):
        return quality.point_values(view)
    return brand.point_values(view, np.arange(view.no_logo), ())
