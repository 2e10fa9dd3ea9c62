"""The report: a self-contained HTML page of an evaluation and its model card."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment
from PIL import Image

from training.evaluation import brand, figures, quality
from training.evaluation.answers import Figure
from training.evaluation.card import Section, bounds_text, interval_text, share_text
from training.evaluation.outcome import Evaluation, Mistake
from training.evaluation.robustness import encoded
from training.evaluation.thresholds import Tagging

_PICTURE_PX: Final = 104
_HEADLINES: Final = {
    "brand": (
        "accuracy",
        "macro_recall",
        "tagged_precision",
        "tagged_recall",
        "tagged_fpr_no_logo",
        "calibration_error",
    ),
    "quality": ("srcc", "plcc", "auc", "binary_accuracy", "within_one", "calibration_error"),
}
_BASELINES: Final = {"brand": brand.BASELINES, "quality": quality.BASELINES}


@dataclass(frozen=True, slots=True)
class Plot:
    """An SVG of `figures`, and its caption."""

    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Part:
    """A section of the page; the first row of the table is its header."""

    title: str
    lines: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()


def html(
    title: str,
    subtitle: str,
    evaluation: Evaluation,
    card: Sequence[Section],
    training: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page; `training` is what the run logged, a line each."""
    template = files("training.evaluation").joinpath("report.html").read_text()
    rows = {name: _row(name, figure, evaluation.kind) for name, figure in evaluation.figures.items()}
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            title=title,
            subtitle=subtitle,
            tiles=[rows[name] for name in _HEADLINES[evaluation.kind]],
            alarms=evaluation.alarms,
            statements=[line for section in card if section.title == "Labels" for line in section.sentences],
            baselines=_BASELINES[evaluation.kind],
            figures=list(rows.values()),
            parts=[*_parts(evaluation), *_training_parts(training)],
            mistakes=[{"id": m.id, "truth": m.truth, "said": m.said, "src": picture(m)} for m in evaluation.mistakes],
            card=card,
        )
    )


def _row(name: str, figure: Figure, kind: str) -> dict[str, Any]:
    return {
        "name": name.replace("_", " "),
        "value": share_text(figure.value),
        "interval": bounds_text(figure.low, figure.high),
        "baselines": [share_text(figure.baselines[other]) for other in _BASELINES[kind]],
    }


def picture(mistake: Mistake) -> str:
    """A small JPEG as a data URI."""
    shown = Image.fromarray(mistake.pixels)
    if shown.width > _PICTURE_PX:
        shown = shown.resize((_PICTURE_PX, _PICTURE_PX), Image.Resampling.LANCZOS)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded(shown, 'JPEG', quality=80)).decode()}"


def _parts(evaluation: Evaluation) -> list[Part]:
    special = _brand_parts(evaluation) if evaluation.kind == "brand" else _quality_parts(evaluation)
    return [
        *_apart_parts(evaluation),
        *special,
        _calibration_part(evaluation),
        *_slice_parts(evaluation),
        *_damage_parts(evaluation),
        *_robustness_parts(evaluation),
    ]


def _training_parts(lines: Sequence[Mapping[str, Any]]) -> list[Part]:
    if not lines:
        return []
    caption = "A score on val that falls while the loss still falls: the model learns its training photos by heart."
    return [Part("Training", (), (Plot(figures.learning(lines), caption),))]


def _apart_parts(evaluation: Evaluation) -> list[Part]:
    found = evaluation.apart
    if found is None:
        return []
    shared = ", ".join(f"{name} {count}" for name, count in sorted(found.shared.items())) or "none"
    total = found.sharing_photos + found.apart_photos
    counts = (
        f"Of {total} photographs to test on, {found.sharing_photos} share something with a training photo ({shared}), "
        f"{found.apart_photos} nothing. The former are easier than photos of strangers."
    )
    meaning = (
        "Looks: similar perceptual hashes; moment: taken within a minute; series: names that differ in one number, by "
        "3 at most; uploader: an equal group, uploader, album or the like. A part of fewer than 20 photos has no "
        "figures."
    )
    rows = [
        (name.replace("_", " "), *(interval_text(part[name]) if name in part else "none" for part in parts))
        for parts in ((found.sharing, found.apart),)
        for name in _HEADLINES[evaluation.kind]
    ]
    head = ("", f"share something ({found.sharing_photos})", f"share nothing ({found.apart_photos})")
    return [Part("Photos that training has seen the like of", (counts, meaning), (), (head, *rows))]


def _brand_parts(evaluation: Evaluation) -> list[Part]:
    assert evaluation.choice is not None  # noqa: S101 - a brand evaluation has them
    assert evaluation.confusion is not None  # noqa: S101
    assert evaluation.test is not None  # noqa: S101
    target, threshold = evaluation.choice.target, evaluation.decision["threshold"]
    table: list[tuple[str, ...]] = [
        ("brand", "photos", "recall", "95 %", "tagged recall", "95 %", "tagged precision", "average precision", "named")
    ]
    table += [_brand_cells(row) for row in evaluation.rows]
    chosen, found = evaluation.choice.tagging, evaluation.verified
    decision: list[tuple[str, ...]] = [
        ("photos", "tagged", "precision", "95 %", "recall of brands", "no-logo photos tagged")
    ]
    for name, option in (("val, where it was chosen", chosen), ("test, frozen", found)):
        if option is not None:
            decision.append((name, *_tagging_cells(option)))
    met = "met" if evaluation.choice.met else "not met"
    return [
        Part(
            "Brands",
            (),
            (
                Plot(figures.recalls(evaluation.rows), "Recall of each brand (photos in brackets)."),
                Plot(figures.confusion(evaluation.confusion, evaluation.labels), "Confusion by argmax, test photos."),
            ),
            tuple(table),
        ),
        Part(
            "Decision",
            (
                (
                    f"On val, the lower 95 % bound of the precision must be {target.precision:g}, and at most "
                    f"{target.no_logo_rate:.1%} of no-logo photos may be tagged: {met}."
                ),
            ),
            (
                Plot(figures.thresholds(evaluation.sweep, threshold, target.precision), "Every threshold, on test."),
                Plot(figures.score_histogram(evaluation), "Highest brand probability."),
                Plot(
                    figures.precision_recall_curves(
                        evaluation.test, evaluation.labels, evaluation.decision["temperature"]
                    ),
                    "Precision and recall of each brand.",
                ),
            ),
            tuple(decision),
        ),
        _false_positive_part(evaluation),
    ]


def _brand_cells(row: brand.BrandRow) -> tuple[str, ...]:
    return (
        row.brand,
        str(row.photos),
        share_text(row.recall),
        bounds_text(row.recall_interval.low, row.recall_interval.high),
        share_text(row.tagged_recall),
        bounds_text(row.tagged_recall_interval.low, row.tagged_recall_interval.high),
        share_text(row.tagged_precision),
        share_text(row.average_precision),
        str(row.predicted),
    )


def _tagging_cells(found: Tagging) -> tuple[str, ...]:
    return (
        str(found.tagged),
        share_text(found.precision),
        bounds_text(found.interval.low, found.interval.high),
        share_text(found.recall),
        share_text(found.no_logo_rate),
    )


def _false_positive_part(evaluation: Evaluation) -> Part:
    head = ("photos without a known brand", "by argmax", "at the threshold", "always no_logo")
    table: list[tuple[str, ...]] = [head]
    for name, figure in evaluation.figures.items():
        if name.startswith("fpr_"):
            tagged = evaluation.figures[f"tagged_{name}"]
            label = "all" if name == "fpr_no_logo" else name.removeprefix("fpr_").replace("_", " ")
            table.append((label, interval_text(figure), interval_text(tagged), "0"))
    found = evaluation.foreign
    if found:
        cells = [
            f"{share_text(found[name])} ({bounds_text(found[name + '_low'], found[name + '_high'])})"
            for name in ("fpr_foreign", "tagged_fpr_foreign")
        ]
        table.append((f"foreign: {found['photos']:.0f} photos from elsewhere", *cells, "0"))
        line = "Foreign photos come from other cameras and scenes than any training photo."
    else:
        line = "No foreign photos were given (--foreign when training), so nothing is known about other scenes."
    return Part("False positives", (line,), (), tuple(table))


def _quality_parts(evaluation: Evaluation) -> list[Part]:
    assert evaluation.confusion is not None  # noqa: S101 - every evaluation has it
    return [
        Part(
            "Levels",
            (f"Good: score of {evaluation.decision['good_threshold']:g} or more, chosen on val.",),
            (
                Plot(figures.confusion(evaluation.confusion, evaluation.labels), "Confusion by argmax, test photos."),
                Plot(figures.scores_by_rating(evaluation), "Scores of each level; the line is the threshold."),
                Plot(figures.score_histogram(evaluation), "Scores of good and poor photos."),
            ),
        )
    ]


def _calibration_part(evaluation: Evaluation) -> Part:
    assert evaluation.calibration is not None  # noqa: S101 - every evaluation has it
    found = evaluation.calibration
    table = (
        ("", "ECE, 15 bins", "Brier score"),
        ("before", share_text(found.before.error), share_text(found.brier_before)),
        (
            f"temperature {found.temperature:g}, fitted on val",
            share_text(found.after.error),
            share_text(found.brier_after),
        ),
    )
    plot = Plot(figures.reliability(found), "Accuracy against confidence; bars are the share of photos.")
    line = (
        f"A perfectly calibrated model has an ECE of up to {evaluation.error_by_chance:.3f} on these photos by chance "
        "(97.5 % of label sets drawn from its own probabilities)."
    )
    return Part("Calibration", (line,), (plot,), table)


def _slice_parts(evaluation: Evaluation) -> list[Part]:
    if not evaluation.slices:
        return []
    caption = "Parts of at least 20 photos; red: the whole interval lies 10 points under the average."
    return [Part("Slices", (), (Plot(figures.slices(evaluation.slices), caption),))]


def _damage_parts(evaluation: Evaluation) -> list[Part]:
    found = evaluation.paired
    if found is None:
        return []
    lines = (
        "How often a copy, damaged at full size before the model's resize, scores lower than its photo; chance: 50 %.",
        f"Of {found.packshots} photos called good, put on white as packshots, {found.poor_packshots:.1%} are poor.",
    )
    table = (
        ("damage", "short side, px", "photos", "copy scores lower", "95 %", "median drop"),
        *(
            (
                pair.damage, f"{pair.short_side}{', on white' if pair.on_white else ''}", str(pair.photos),
                f"{pair.lower:.1%}", bounds_text(pair.interval.low, pair.interval.high), f"{pair.drop:.3f}",
            )
            for pair in found.pairs
        ),
    )  # fmt: skip
    return [Part("Photos against their damaged copies", lines, (), table)]


def _robustness_parts(evaluation: Evaluation) -> list[Part]:
    if not evaluation.flips:
        return []
    line = (
        "Photos' own files, re-coded and prepared as in service."
        if evaluation.flips_on_originals
        else "These photos exist as pixels of the model's size only, so they are re-coded at that size: harsher than "
        "what happens to an upload."
    )
    lines: tuple[str, ...] = (line,)
    if evaluation.kind == "quality":
        lines = (line, "JPEG quality 30, half size and grey damage a photo: that its judgement changes may be right.")
    table = (
        ("artefact", "photos", "tags changed", "95 %", "right before", "right after"),
        *(
            (
                f.artefact, str(f.photos), f"{f.rate:.1%}", bounds_text(f.interval.low, f.interval.high),
                share_text(f.right_before), share_text(f.right_after),
            )
            for f in evaluation.flips
        ),
    )  # fmt: skip
    return [Part("Robustness to upload artefacts", lines, (Plot(figures.flips(evaluation.flips), ""),), table)]
