"""The evaluation of a run: temperature and threshold are fitted on val, then measured once on test and foreign."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from torch import nn

from training.data.decode import Geometry
from training.evaluation import brand, quality, robustness
from training.evaluation.answers import Answers
from training.evaluation.apart import Apart, divided
from training.evaluation.decide import brand_choice, quality_choice
from training.evaluation.outcome import Calibration, Evaluation, Mistake
from training.evaluation.predict import SplitPredictions, files_of, logits_of
from training.evaluation.slices import Part, parts
from training.evaluation.thresholds import Choice, Target, sweep, tagging
from training.serving.decision import decided
from training.statistics import Flags, Ints, brier, error_by_chance, softmax, top_reliability, wilson

_ROBUSTNESS_PHOTOS: Final = 300
_WORST: Final = 24
_HISTOGRAM_BINS: Final = 20


@dataclass(frozen=True, slots=True)
class Splits:
    """The photos of a run as its model sees them; `foreign` may be empty."""

    val: SplitPredictions
    test: SplitPredictions
    foreign: SplitPredictions
    #: What each test photo shares with training (`related.related`); empty if that is not known.
    shared: Sequence[tuple[str, ...]] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Photos of each."""
        return {name: len(getattr(self, name).answers) for name in ("val", "test", "foreign")}


def assess_brand(net: nn.Module, labels: tuple[str, ...], splits: Splits, target: Target) -> Evaluation:
    """Evaluates a brand model."""
    val, test = splits.val.answers, splits.test.answers
    temperature, choice = brand_choice(val, target)
    threshold = choice.tagging.threshold
    seen = brand.view(test, temperature, threshold)
    right, branded = seen.brand == seen.labels, seen.labels != seen.no_logo
    predicted = seen.probabilities.argmax(1)
    majority = int(np.bincount(val.labels, minlength=len(labels)).argmax())
    alarms = [f"{name} is never predicted" for name in brand.never_predicted(seen.labels, predicted, labels)]
    apart = divided(
        splits.test.photos, splits.shared, lambda part: brand.figures(seen.take(part), test.groups[part], majority)
    )
    common = _common(
        splits,
        seen.decided == seen.labels,
        test.labels,
        lambda images: decided(softmax(logits_of(net, images), temperature), threshold),
    )
    return replace(
        common,
        kind="brand",
        labels=labels,
        decision={"threshold": threshold, "temperature": temperature},
        figures=brand.figures(seen, test.groups, majority),
        calibration=_calibration(test, temperature),
        error_by_chance=error_by_chance(seen.probabilities.max(1)),
        confusion=brand.confusion(seen.labels, predicted, len(labels)),
        mistakes=_mistakes(splits.test, seen.decided, labels, np.where(right, 1 - seen.score, seen.score)),
        apart=apart,
        alarms=(
            *alarms,
            *_unmet(choice),
            *_flattery(apart),
            *_slice_alarms(common.slices),
            *_flip_alarms(common.flips),
        ),
        drift=_drift(seen.score, brand.tag_rates(seen, labels), splits.test.images),
        rows=tuple(brand.rows(seen, labels)),
        choice=choice,
        verified=tagging(seen.score, right, branded, threshold),
        sweep=tuple(sweep(seen.score, right, branded, 0.3, 0.99)),
        foreign=_foreign(brand.view(splits.foreign.answers, temperature, threshold)),
    )


def assess_quality(net: nn.Module, labels: tuple[str, ...], splits: Splits) -> Evaluation:
    """Evaluates a quality model."""
    val, test = splits.val.answers, splits.test.answers
    temperature, threshold = quality_choice(val)
    seen = quality.view(test, temperature, threshold)
    good, sided = quality.sides_of(seen.ratings)
    predicted = seen.probabilities.argmax(1)
    never = brand.never_predicted(seen.labels, predicted, labels)
    apart = divided(
        splits.test.photos, splits.shared, lambda part: quality.figures(seen.take(part), test.groups[part], val.labels)
    )
    common = _common(
        splits,
        (seen.decided == 1) == good,
        good.astype(np.int64),
        lambda images: (quality.score_of(softmax(logits_of(net, images), temperature)) >= threshold).astype(np.int64),
        sided,
    )
    rates = {"good": float((seen.decided == 1).mean()), "poor": float((seen.decided == 0).mean())}
    return replace(
        common,
        kind="quality",
        labels=labels,
        decision={"good_threshold": threshold, "temperature": temperature},
        figures=quality.figures(seen, test.groups, val.labels),
        calibration=_calibration(test, temperature),
        error_by_chance=error_by_chance(seen.probabilities.max(1)),
        confusion=brand.confusion(seen.labels, predicted, len(labels)),
        mistakes=_mistakes(splits.test, predicted, labels, np.abs(1 + 4 * seen.score - seen.ratings)),
        alarms=(
            *(f"level {name} is never predicted" for name in never),
            *_flattery(apart),
            *_slice_alarms(common.slices),
            *_flip_alarms([flip for flip in common.flips if flip.artefact in robustness.HARMLESS]),
        ),
        apart=apart,
        drift=_drift(seen.score, rates, splits.test.images),
    )


def _common(
    splits: Splits,
    right: Flags,
    expected: Ints,
    decide: Callable[[np.ndarray], Ints],
    counted: Flags | None = None,
) -> Evaluation:
    """What both kinds of model have in common, slices and robustness; the caller fills in the rest."""
    test = splits.test
    which = np.ones(len(right), np.bool_) if counted is None else counted
    sliced = test.answers.take(which)
    # the kind of a photo without a brand has a table of its own, and follows from its label
    properties = {name: values for name, values in sliced.slices.items() if name != brand.ORIGIN}
    slices = tuple(parts(replace(sliced, slices=properties), right[which]))
    bodies, chosen, original = files_of(test, _ROBUSTNESS_PHOTOS)
    side = test.images.shape[1]
    flips = robustness.flips(bodies, expected[chosen], Geometry(side, side), decide) if bodies else []
    return Evaluation(
        photos=splits.counts,
        slices=slices,
        flips=tuple(flips),
        flips_on_originals=original,
        test=test.answers,
    )


def _calibration(answers: Answers, temperature: float) -> Calibration:
    before, after = answers.probabilities(), answers.probabilities(temperature)
    return Calibration(
        temperature,
        top_reliability(before, answers.labels),
        top_reliability(after, answers.labels),
        brier(before, answers.labels),
        brier(after, answers.labels),
    )


def _foreign(away: brand.BrandView) -> dict[str, float]:
    """False positive rates on foreign photos, which show no known brand."""
    if not len(away.labels):
        return {}
    argmax, tagged = away.probabilities.argmax(1) != away.no_logo, away.decided != away.no_logo
    found: dict[str, float] = {"photos": float(len(away.labels))}
    for name, flags in (("fpr_foreign", argmax), ("tagged_fpr_foreign", tagged)):
        interval = wilson(int(flags.sum()), len(flags))
        found |= {name: float(flags.mean()), f"{name}_low": interval.low, f"{name}_high": interval.high}
    return found


def _mistakes(seen: SplitPredictions, said: Ints, labels: tuple[str, ...], badness: np.ndarray) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(said != seen.answers.labels)
    worst = wrong[np.argsort(-badness[wrong], kind="stable")][:_WORST]
    return tuple(
        Mistake(
            str(seen.answers.ids[index]),
            labels[seen.answers.labels[index]],
            labels[said[index]],
            float(badness[index]),
            seen.images[index],
        )
        for index in worst
    )


def _unmet(choice: Choice) -> list[str]:
    if choice.met:
        return []
    if choice.few:
        wanted, found = f"a precision of {choice.target.precision:g}", choice.tagging
        few = f"too few validation photos show a brand to prove {wanted}; the threshold {found.threshold:g}"
        return [f"{few} has {found.precision:.3f} on the {found.tagged} that it tags"]
    rates = f"{choice.target.no_logo_rate:.1%} of no-logo photos, {choice.target.ordinary_rate:.1%} of ordinary ones"
    target = f"a precision bound of {choice.target.precision:g} and {rates}"
    return [f"no threshold reaches {target}; {choice.tagging.threshold:g} is the highest allowed"]


def _flattery(apart: Apart | None) -> list[str]:
    return apart.alarms() if apart else []


def _slice_alarms(slices: tuple[Part, ...]) -> list[str]:
    return [f"slice {part.property} = {part.value}: right {part.rate:.1%}" for part in slices if part.alarming]


def _flip_alarms(flips: Sequence[robustness.Flips]) -> list[str]:
    return [f"{f.artefact} changes {f.rate:.1%} of tags" for f in flips if f.interval.low > robustness.ALARM]


def _drift(score: np.ndarray, rates: Mapping[str, float], images: np.ndarray) -> dict[str, Any]:
    """The baseline for drift in service: histogram of scores, rates of tags, brightness and contrast of photos."""
    counts, edges = np.histogram(score, bins=_HISTOGRAM_BINS, range=(0.0, 1.0))
    flat = images.reshape(len(images), -1)
    quantiles = (0.05, 0.25, 0.5, 0.75, 0.95)
    return {
        "photos": len(score),
        "score_edges": [round(float(edge), 4) for edge in edges],
        "score_counts": counts.tolist(),
        "tag_rates": {name: round(rate, 6) for name, rate in rates.items()},
        "quantiles": list(quantiles),
        "brightness": np.quantile(flat.mean(1), quantiles).round(3).tolist(),
        "contrast": np.quantile(flat.std(1), quantiles).round(3).tolist(),
    }
