"""Plots as SVG text for a page; text has the page's colour, so that it is readable in light and in dark mode."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas

from training.evaluation.answers import Answers
from training.evaluation.brand import BrandRow
from training.evaluation.outcome import Calibration, Evaluation
from training.evaluation.quality import GOOD_LEVEL, POOR_LEVEL, score_of
from training.evaluation.robustness import ALARM, Flips
from training.evaluation.slices import Part
from training.evaluation.thresholds import Tagging
from training.statistics import Ints, Reliability, precision_recall

BLUE, ORANGE, GREEN, RED, GREY = "#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b93a1"
#: Placeholder of the page's text colour, replaced in the SVG.
_INK: Final = "#0a0b0c"
_STYLE: Final[Any] = {  # its keys' type is a list of every setting's name
    "svg.fonttype": "none",
    "svg.hashsalt": "photo-trainer",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
_MOST_CURVES, _MOST_LABELLED = 12, 20
#: Scores on val that the curves show.
_SCORES: Final = ("accuracy", "macro_recall", "srcc")
#: From the page's background to blue.
_FADING: Final = LinearSegmentedColormap.from_list("fading", [(0.12, 0.38, 0.85, 0.0), (0.12, 0.38, 0.85, 1.0)])


#: Decorates every function that makes a figure: artists read the style when they are created.
styled: Final = mpl.rc_context(_STYLE)


def subplots(width: float, height: float, columns: int = 1) -> Any:  # noqa: ANN401 - axes, or an array of them
    """Axes of a new figure; sizes in inches."""
    return Canvas(figsize=(width, height)).subplots(1, columns, sharey=True)


def svg(axes: Axes) -> str:
    """The SVG of the figure that the axes are in; equal for equal data."""
    canvas, stream = axes.get_figure(root=True), io.StringIO()
    assert canvas is not None  # noqa: S101 - `subplots` made it
    canvas.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    # the page's style sheet scales it, and its fonts are the page's
    width_in = canvas.get_figwidth() * 1.15
    return text.replace("<svg ", f'<svg class="plot" role="img" style="max-width:{width_in:.2f}in" ', 1)


@styled
def learning(lines: Sequence[Mapping[str, Any]]) -> str:
    """Loss of the training batches, and scores on val, by step: the lines of a run's metrics.jsonl."""
    steps, scored = ([line for line in lines if line["kind"] == kind] for kind in ("step", "evaluation"))
    left, right = Canvas(figsize=(6.6, 3.0)).subplots(1, 2)
    left.plot([line["step"] for line in steps], [line["loss"] for line in steps], color=BLUE, lw=1.4)
    left.set_ylabel("loss of a training batch")
    names = [name for name in _SCORES if scored and name in scored[0]]
    for name, colour in zip(names, (BLUE, GREEN, ORANGE), strict=False):
        values = [line[name] for line in scored]
        right.plot([line["step"] for line in scored], values, "o-", ms=3, color=colour, lw=1.4, label=_words(name))
    kept = [line["step"] for line in scored if line.get("best")]
    if kept:
        right.axvline(kept[-1], color=GREY, ls=":", lw=1, label="best weights")
    right.set_ylabel("score on val")
    for axes in (left, right):
        axes.set_xlabel("step")
    right.legend(fontsize=8)
    return svg(left)


def _words(name: str) -> str:
    return name.replace("_", " ")


@styled
def confusion(counts: Ints, labels: Sequence[str]) -> str:
    """Shares of each true label, with counts where there is room."""
    side = max(3.2, 0.42 * len(labels) + 1.6)
    axes = subplots(side, side)
    paint_confusion(axes, counts, labels, _FADING, _INK)
    return svg(axes)


def paint_confusion(axes: Axes, counts: Ints, labels: Sequence[str], cmap: str | Colormap, ink: str) -> None:
    """Draws shares of each true label, and counts in `ink`, or in white where the ground is dark."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap=cmap, vmin=0, vmax=1)
    axes.grid(visible=False)
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("said")
    axes.set_ylabel("true")
    for (row, column), count in np.ndenumerate(counts) if len(labels) <= _MOST_LABELLED else ():
        if count:
            colour = "white" if shares[row, column] > 0.5 else ink
            axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)


@styled
def recalls(rows: Sequence[BrandRow]) -> str:
    """Recall of each brand with Wilson's interval, by argmax and at the threshold."""
    axes = subplots(5.4, max(2.2, 0.36 * len(rows) + 1))
    places = np.arange(len(rows))
    for shift, colour, name, values in (
        (-0.15, BLUE, "by argmax", [(r.recall, r.recall_interval) for r in rows]),
        (0.15, ORANGE, "at the threshold", [(r.tagged_recall, r.tagged_recall_interval) for r in rows]),
    ):
        middles = np.array([value for value, _ in values])
        ends = np.array([[value - i.low, i.high - value] for value, i in values]).T
        axes.errorbar(
            middles, places + shift, xerr=np.clip(ends, 0, None), fmt="o", ms=4, color=colour, label=name, lw=1.4
        )
    axes.set_yticks(places, [f"{row.brand} ({row.photos})" for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("recall, 95 % interval")
    axes.legend(loc="lower left")
    return svg(axes)


@styled
def precision_recall_curves(answers: Answers, labels: Sequence[str], temperature: float) -> str:
    """One curve a brand."""
    probabilities = answers.probabilities(temperature)
    axes = subplots(5.0, 3.8)
    for index, name in enumerate(labels[:-1][:_MOST_CURVES]):
        precision, recall, _ = precision_recall(probabilities[:, index], answers.labels == index)
        if len(precision):
            axes.step(recall, precision, where="post", lw=1.2, label=name, color=mpl.colormaps["tab20"](index))
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.legend(fontsize=7, ncols=2, loc="lower left")
    return svg(axes)


@styled
def reliability(calibration: Calibration) -> str:
    """Accuracy against confidence, before and after the temperature, with the photos of each bin."""
    left, right = subplots(6.6, 3.2, columns=2)
    _reliability(left, calibration.before, f"before: ECE {calibration.before.error:.3f}", GREY)
    fitted = f"temperature {calibration.temperature:g}: ECE {calibration.after.error:.3f}"
    _reliability(right, calibration.after, fitted, BLUE)
    left.set_ylabel("accuracy")
    return svg(left)


def _reliability(axes: Axes, found: Reliability, title: str, colour: str) -> None:
    bins = len(found.counts)
    middles = (np.arange(bins) + 0.5) / bins
    filled = found.counts > 0
    axes.bar(middles, found.counts / max(1, found.counts.sum()), 1 / bins, color=GREY, alpha=0.3, label="photos")
    axes.plot([0, 1], [0, 1], "--", color=GREY, lw=1)
    axes.plot(found.confidence[filled], found.accuracy[filled], "o-", color=colour, ms=4, lw=1.4)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.set_title(title)
    axes.set_xlabel("confidence")


@styled
def thresholds(options: Sequence[Tagging], chosen: float, target: float) -> str:
    """Metrics of every threshold on test photos; the chosen one is marked."""
    axes = subplots(5.4, 3.4)
    at = [option.threshold for option in options]
    axes.fill_between(
        at, [o.interval.low for o in options], [o.interval.high for o in options], color=BLUE, alpha=0.2, lw=0
    )
    axes.plot(at, [o.precision for o in options], color=BLUE, label="precision, 95 % interval")
    axes.plot(at, [o.recall for o in options], color=ORANGE, label="recall of brands")
    axes.plot(at, [o.no_logo_rate for o in options], color=RED, label="no-logo photos tagged")
    axes.axhline(target, color=GREY, lw=1, ls=":")
    axes.axvline(chosen, color=GREEN, lw=1.4, label=f"chosen on val: {chosen:g}")
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("threshold")
    axes.legend(loc="center left", fontsize=8)
    return svg(axes)


@styled
def slices(parts: Sequence[Part]) -> str:
    """Accuracy on each part, with Wilson's interval."""
    rows = list(parts)
    axes = subplots(6.2, max(1.8, 0.26 * len(rows) + 0.9))
    places = np.arange(len(rows))
    rates = np.array([part.rate for part in rows])
    ends = np.array([[part.rate - part.interval.low, part.interval.high - part.rate] for part in rows]).T
    colours = [RED if part.alarming else BLUE for part in rows]
    for place, rate, low, high, colour in zip(places, rates, *ends, colours, strict=True):
        axes.errorbar(rate, place, xerr=[[max(low, 0)], [max(high, 0)]], fmt="o", ms=4, color=colour, lw=1.4)
    axes.set_yticks(places, [f"{part.property}: {part.value} ({part.photos})" for part in rows])
    axes.invert_yaxis()
    axes.set_xlim(max(0.0, math.floor(rates.min() * 10 - 1) / 10), 1.02)
    axes.set_xlabel("decided as labelled, 95 % interval")
    return svg(axes)


@styled
def flips(found: Sequence[Flips]) -> str:
    """Share of tags that each artefact changes."""
    axes = subplots(5.4, 0.36 * len(found) + 0.9)
    places = np.arange(len(found))
    colours = [RED if flip.interval.low > ALARM else BLUE for flip in found]
    axes.barh(places, [flip.rate for flip in found], 0.55, color=colours)
    for place, flip in zip(places, found, strict=True):
        axes.plot([flip.interval.low, flip.interval.high], [place, place], color=_INK, lw=1)
    axes.axvline(ALARM, color=GREY, ls=":", lw=1)
    axes.set_yticks(places, [flip.artefact for flip in found])
    axes.invert_yaxis()
    axes.set_xlim(0, max(0.06, *(flip.interval.high for flip in found)) * 1.05)
    axes.set_xlabel("share of tags that change, 95 % interval")
    return svg(axes)


@styled
def score_histogram(evaluation: Evaluation) -> str:
    """Scores of good and poor photos, or of photos with and without a brand."""
    assert evaluation.test is not None  # noqa: S101 - drawn only from an evaluation in memory
    answers = evaluation.test
    probabilities = answers.probabilities(evaluation.decision["temperature"])
    if evaluation.kind == "brand":
        last = probabilities.shape[1] - 1
        score, threshold = probabilities[:, :last].max(1), evaluation.decision["threshold"]
        sides = (("brand", answers.labels != last, BLUE), ("no logo", answers.labels == last, ORANGE))
    else:
        score = score_of(probabilities)
        threshold = evaluation.decision["good_threshold"]
        sides = (
            (f"rated {GOOD_LEVEL:g} or better", answers.targets >= GOOD_LEVEL, BLUE),
            (f"rated {POOR_LEVEL:g} or worse", answers.targets <= POOR_LEVEL, ORANGE),
        )
    axes = subplots(5.0, 3.0)
    for name, which, colour in sides:
        axes.hist(score[which], bins=40, range=(0, 1), alpha=0.6, color=colour, label=name)
    axes.axvline(threshold, color=GREEN, lw=1.4, label=f"threshold {threshold:g}")
    axes.set_yscale("log" if evaluation.kind == "brand" else "linear")
    axes.set_xlabel("score")
    axes.set_ylabel("photos")
    axes.legend(fontsize=8)
    return svg(axes)


@styled
def scores_by_rating(evaluation: Evaluation) -> str:
    """The distribution of scores for each level."""
    assert evaluation.test is not None  # noqa: S101 - as above
    answers = evaluation.test
    score = score_of(answers.probabilities(evaluation.decision["temperature"]))
    groups = [score[answers.labels == level] for level in range(answers.logits.shape[1])]
    axes = subplots(4.2, 3.0)
    shown = [(level + 1, group) for level, group in enumerate(groups) if len(group)]
    axes.boxplot(
        [group for _, group in shown],
        positions=[level for level, _ in shown],
        widths=0.55,
        showfliers=False,
        boxprops={"color": BLUE},
        whiskerprops={"color": GREY},
        capprops={"color": GREY},
        medianprops={"color": ORANGE},
    )
    axes.axhline(evaluation.decision["good_threshold"], color=GREEN, lw=1.2)
    axes.set_ylim(0, 1)
    axes.set_xlabel("level")
    axes.set_ylabel("score")
    return svg(axes)
