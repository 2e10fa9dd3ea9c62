"""The model card: intended use, data, known biases, figures. As Markdown, and as sections for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from training.evaluation.answers import Figure
from training.evaluation.outcome import Evaluation
from training.models.packages import LICENCE, TRAINED_ON, package_of
from training.runs.run import BEGAN_WITH

#: Sources whose labels code made.
_SYNTHETIC: Final = {
    "composed": "Brand labels of composed photos were made by code: a known mark was pasted onto a scene.",
    "damaged": (
        "Grades of damaged photos were made by code: level 5 is an undamaged photo, level 1 a ruined one. They say how "
        "damaged a photo is, not how much people like it. Human grades would need at least three people a photo, the "
        "spread of their votes, a test set that other people grade, and photos from the service's own uploads."
    ),
}
_COPIES: Final = (
    "Beside the photos that people rated, code showed training damaged copies of them, whose ratings it lowered by the "
    "severity of the damage, and copies on white. No copy is among the photos that the figures are of."
)
_OWN_RATINGS: Final = (
    "Ratings by your own people replace these by one command: `photo-trainer train quality-rated --data FOLDER`, with "
    "the photos and a list `ratings.csv` in the folder."
)
#: Licence of each kind of source, as far as it is known.
_LICENCES: Final = {
    "composed": "simpleicons paths (CC0; the marks stay their owners' trademarks) on scenes drawn by code and on "
    "sample photos of scikit-image and scikit-learn",
    "unrated": "photos that nobody rated, whose licence is for their owner to state, or scenes as of composed photos",
    "damaged": "the photos named below, or scenes as of composed photos, damaged by code",
    "grocery": "GroceryStoreDataset (MIT)",
    "flickrlogos32": "FlickrLogos-32: for research; the photos belong to their Flickr authors",
    "openimages": "Open Images: boxes CC BY 4.0, photos CC BY 2.0 as listed by their authors",
    "ava": "AVA: photos of DPChallenge members, for research",
    "koniq10k": "KonIQ-10k: Creative Commons photos of YFCC100M",
    "spaq": "SPAQ: for research",
    "ratings": "a list of rated photos; its licence is for its owner to state",
    "folders": "folders of brand photos; their licence is for their owner to state",
}
_IMAGENET: Final = (
    "ImageNet's photos come from the web and are for research; its classes are everyday things and living beings."
)
_INTENDED: Final = {
    "brand": (
        (
            "Tags an uploaded photo with at most one brand of a closed list, for choosing advertisements. A person "
            "should look before anything is decided about somebody from it."
        ),
        "Not for finding every logo in a photo, for counterfeits, for brands outside the list, or for judging people.",
    ),
    "quality": (
        "Scores the technical quality of an uploaded photo from 0 to 1, to choose among photos that show a brand.",
        "Not for beauty or taste, for ranking people's work, or for photos of kinds that it never saw.",
    ),
}
_BIASES: Final = {
    "brand": (
        "It sees the square in the middle: a mark outside, or smaller than about a sixth of its side, is missed.",
        (
            "Look-alikes that it never saw, lettering and packaging of unlisted brands get tagged more often than "
            "plain photos; the rates above say how often on these photos."
        ),
        "Brands with few or uniform training photos have lower recall; the intervals of rare brands are wide.",
    ),
    "quality": (
        "It sees a small picture: fine noise and slight blur of large photos are gone before it looks.",
        "Intended dark, soft or monochrome photos score like failed ones.",
        "Kinds of damage that training lacked are judged by accident.",
    ),
}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, sentences, and rows of name and value."""

    title: str
    sentences: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()


def share_text(value: float | None) -> str:
    """A value with three decimals; "none" for null and nan."""
    return "none" if value is None or value != value else f"{value:.3f}"  # noqa: PLR0124 - nan is not itself


def bounds_text(low: float | None, high: float | None) -> str:
    """The bounds of an interval."""
    return f"{share_text(low)} to {share_text(high)}"


def interval_text(figure: Figure) -> str:
    """A value with its interval."""
    return f"{share_text(figure.value)} ({bounds_text(figure.low, figure.high)})"


def sections(
    evaluation: Evaluation, recipe: Mapping[str, Any], data: Mapping[str, Any], environment: Mapping[str, Any]
) -> list[Section]:
    """The card of a model.

    Args:
        evaluation: What was measured.
        recipe: The run's recipe as plain values.
        data: The run's data manifest as plain values, without its samples.
        environment: What the run was made with.
    """
    sources = recipe.get("data", {}).get("sources", ())
    model = recipe.get("model", {})
    what = (
        ("kind", evaluation.kind),
        ("network", f"{model.get('arch', 'unknown')}, {model.get('input_px', '?')} px"),
        ("labels", ", ".join(evaluation.labels)),
    )
    return [
        Section("Model", (), what),
        Section("Start weights", *_start_weights(model, str(environment.get(BEGAN_WITH, "")))),
        Section("Intended use", _INTENDED[evaluation.kind]),
        Section("Data and licences", _data_sentences(recipe), _data_rows(evaluation, data)),
        Section("Labels", (*_label_sentences(sources), *_teacher_sentences(data.get("teacher") or {}))),
        Section("Known biases", _BIASES[evaluation.kind]),
        Section(
            "Decision", _decision_sentences(evaluation), tuple((k, f"{v:g}") for k, v in evaluation.decision.items())
        ),
        Section(
            "Test figures, 95 % bootstrap interval",
            (),
            tuple((name.replace("_", " "), interval_text(figure)) for name, figure in evaluation.figures.items()),
        ),
        _apart(evaluation),
        Section("Alarms", evaluation.alarms or ("none",)),
        # the command names folders of the machine that it ran on
        Section("Environment", (), tuple((n, str(value)) for n, value in _flat(environment) if n != "command")),
    ]


def markdown(title: str, parts: Sequence[Section]) -> str:
    """The card as a page."""
    lines = [f"# {title}"]
    for part in parts:
        lines += ["", f"## {part.title}", ""]
        lines += [f"- {sentence}" for sentence in part.sentences]
        if part.sentences and part.rows:
            lines.append("")
        if part.rows:
            lines += ["| | |", "|---|---|", *(f"| {_cell(name)} | {_cell(value)} |" for name, value in part.rows)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _start_weights(model: Mapping[str, Any], began_with: str) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Sentences and rows about the weights that training began with."""
    arch, sha256 = str(model.get("arch", "unknown")), model.get("weights_sha256")
    if model.get("weights"):
        rows = (("file", Path(model["weights"]).name), *((("SHA-256", str(sha256)),) if sha256 else ()))
        if began_with:
            return ("The weights of another run, which began with those of a package.", _IMAGENET), (
                *rows,
                *_package_rows(began_with),
            )
        return ("A file that its user gave; its licence and what it was trained on are for its owner to state.",), rows
    if model.get("pretrained") == "download":
        return (
            f"The ImageNet weights of {arch} that torchvision or timm downloads; the library states their licence.",
        ), ()
    if model.get("pretrained") != "package":
        return ("Random.",), ()
    return (_IMAGENET,), _package_rows(arch)


def _package_rows(arch: str) -> tuple[tuple[str, str], ...]:
    package = package_of(arch)
    return (
        ("package", package.requirement),
        ("file in the package", package.file),
        ("its SHA-256", package.sha256),
        ("trained on", TRAINED_ON),
        ("licence", LICENCE),
        ("source", package.source),
    )


def _data_rows(evaluation: Evaluation, data: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    counts = data.get("counts", {})
    rows = [(f"{split} photos", str(sum(labels.values()))) for split, labels in counts.items()]
    rows += [(f"{name} photos evaluated on", str(count)) for name, count in evaluation.photos.items()]
    rows += [
        ("unreadable photos", str(len(data.get("unreadable", ())))),
        ("leaks between splits", _leaks_text(data.get("leaks", {}))),
        ("data manifest SHA-256", str(data.get("sha256", "unknown"))),
    ]
    return tuple(rows)


def _leaks_text(leaks: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {len(v) if isinstance(v, list) else v}" for name, v in leaks.items()) or "not checked"


def _data_sentences(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    sources = recipe.get("data", {}).get("sources", ())
    lines = [source.get("terms") or _LICENCES.get(source["kind"], source["kind"]) for source in sources]
    if recipe.get("data", {}).get("ordinary"):
        lines.append("ordinary photos without a brand, given when training; their licence is for their owner to state")
    if recipe.get("train", {}).get("final") == "all":
        lines.append(
            "The figures are of weights that were trained on the training split alone. The published weights were then "
            "trained alike on the photos of all splits; threshold and temperature are those of the first training."
        )
    return tuple(lines)


def _label_sentences(sources: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    kinds = [str(source["kind"]) for source in sources]
    made = tuple(_SYNTHETIC[kind] for kind in dict.fromkeys(kinds) if kind in _SYNTHETIC)
    if set(kinds) - set(_SYNTHETIC):
        made = (*made, "Labels of the other sources were given by people, as those sources describe.")
    if any(source.get("damaged") or source.get("on_white") for source in sources):
        made = (*made, _COPIES)
    if "ratings" in kinds:
        made = (*made, _OWN_RATINGS)
    return made


def _teacher_sentences(teacher: Mapping[str, Any]) -> tuple[str, ...]:
    if not teacher:
        return ()
    return (
        (
            f"A model taught this one: {teacher['share']:.0%} of the label of a photo to train on, and the whole "
            f"label of {teacher['unrated']} photos that nobody rated, is the answer of {teacher['name']} (SHA-256 "
            f"{teacher['sha256']}), whose errors it learns too. The figures are of people's ratings alone."
        ),
    )


def _decision_sentences(evaluation: Evaluation) -> tuple[str, ...]:
    if evaluation.choice is None:
        return ("The threshold tells good from poor photos best on validation photos; level 3 is neither.",)
    target, found = evaluation.choice.target, evaluation.verified
    lines = [
        f"Chosen on validation photos as the lowest threshold whose precision has a lower 95 % bound of "
        f"{target.precision:g} or more and that tags at most {target.no_logo_rate:.1%} of photos without a brand"
        + ("" if evaluation.choice.met else "; none did, so it is the highest allowed")
        + f". Where the lowest allowed tags none of these, the highest that costs {target.spare:.0%} of the recall, "
        f"and {max(target.raised, target.lowest):g} at most."
    ]
    if found is not None:
        lines.append(
            f"Frozen, then verified on test photos: precision {share_text(found.precision)} "
            f"({bounds_text(found.interval.low, found.interval.high)}), "
            f"recall {share_text(found.recall)}, {share_text(found.no_logo_rate)} of photos without a brand tagged."
        )
    return tuple(lines)


def _apart(evaluation: Evaluation) -> Section:
    title, found = "Test photos that share nothing with training", evaluation.apart
    if found is None:
        return Section(title, ("Not measured: code drew the test photos, or the splits are not known.",))
    line = (
        f"{found.sharing_photos} test photos share looks, moment, series or uploader with a training photo, "
        f"{found.apart_photos} share nothing"
        + ("; figures on the latter:" if found.apart else ", too few for figures.")
    )
    return Section(
        title, (line,), tuple((name.replace("_", " "), interval_text(figure)) for name, figure in found.apart.items())
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        rows += _flat(value, f"{prefix}{name} ") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return rows
