"""The study's tables, plots, figures and notes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from training.data.photos import SPLITS, TEST, VAL
from training.evaluation.brand import confusion, never_predicted
from training.evaluation.figures import subplots
from training.studies import pictures as plots
from training.studies.fit import Pictures, model_of
from training.studies.flickrlogos32.examples import Example, examples_of, figures_of, table_of
from training.studies.flickrlogos32.variants import BASELINE, HEAD, TRANSFER, Score, Settings, Trained, score
from training.studies.flickrlogos32.views import View
from training.studies.labelled import LabelledPhotos
from training.studies.pictures import montage
from training.studies.study import Claim, Figure, Options, Result, Table

_ROWS, _COLUMNS, _PX = 4, 8, 96
_HEAD: Final = ("variant", "val accuracy", "test accuracy", "logo recall", "false positives", "parameters", "seconds")


@dataclass(frozen=True, slots=True)
class Finding:
    """The results of a run."""

    logos: LabelledPhotos
    #: By name of the variant.
    trained: Mapping[str, Trained]
    settings: Settings
    options: Options
    view: View
    #: The file of the best variant.
    classifier: Path | None

    @property
    def no_logo(self) -> int:
        """Index of the last label."""
        return len(self.logos.labels) - 1

    def blind(self, split: str) -> Score:
        """The metrics of always predicting no_logo."""
        labels = self.logos.labels_of(split)
        return score(np.full(len(labels), self.no_logo), labels, self.no_logo)


def report(found: Finding, seen: Pictures) -> Result:
    """The page of a run; `seen` are the photos as training sees them."""
    examples = examples_of(found.logos, found.trained)
    photos = {"Photos as training sees them, cut and mirrored at random": grid(seen)}
    if examples:
        photos["The photos of the table of single photos, as the networks see them, in its order"] = montage(
            [example.pixels(found.view) for example in examples]
        )
    return Result(
        data=found.logos.description,
        tables=_tables(found, examples),
        pictures=_plots(found),
        photos=photos,
        figures={**_figures(found), **figures_of(examples)},
        notes=_notes(found),
        differs=_differs(found),
        claims=_claims(found),
    )


def grid(seen: Pictures) -> bytes:
    """Four rows of eight training views."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(seen))[: _ROWS * _COLUMNS]
    return plots.views(seen.pick(rng, chosen), _PX, _COLUMNS)


def _tables(found: Finding, examples: Sequence[Example]) -> dict[str, Table]:
    blind = (f"{found.blind(VAL).accuracy.value:.3f}", *found.blind(TEST).cells, "0", "0")
    lines: list[tuple[str, ...]] = [("always no-logo", *blind)]
    for entry in found.trained.values():
        title = entry.variant.title + ("" if entry.threshold is None else f" below {entry.threshold:.2f}")
        val = f"{entry.scores[VAL].accuracy.value:.3f}"
        cells = entry.scores[TEST].cells
        lines.append((title, val, *cells, f"{entry.trained_parameters:,}", f"{entry.seconds:.0f}"))
    counts = [found.logos.counts(split) for split in SPLITS]
    photos = [(label, *(str(of[label]) for of in counts)) for label in found.logos.labels]
    photos.append(("all", *(str(sum(of.values())) for of in counts)))
    tables = {
        "All variants (95 % intervals)": Table(_HEAD, tuple(lines)),
        "Photos": Table(("class", *SPLITS), tuple(photos)),
    }
    if examples:
        tables["Single photos, before and after transfer (a photo of test for each brand)"] = table_of(examples)
    for name in (BASELINE, TRANSFER, HEAD):
        if name in found.trained:
            title = found.trained[name].variant.title
            tables[f"{title[0].upper()}{title[1:]}, by epoch"] = found.trained[name].fitted.table
    return tables


@plots.styled
def _plots(found: Finding) -> dict[str, bytes]:
    if not found.trained:
        return {}
    axes = subplots(6.0, 3.4)
    for entry in found.trained.values():
        epochs = entry.fitted.epochs
        axes.plot([e.number for e in epochs], [e.accuracy[VAL] for e in epochs], label=entry.variant.title)
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy on val")
    axes.legend(fontsize=7)
    best = max(found.trained.values(), key=lambda entry: entry.scores[VAL].accuracy.value)
    labels = found.logos.labels
    counts = confusion(found.logos.labels_of(TEST), best.predicted, len(labels))
    return {
        "Accuracy on val by epoch; of what trains without no-logo, on logos alone": plots.png(axes),
        f"Test photos: {best.variant.title}": plots.confusion(counts, labels),
    }


def _figures(found: Finding) -> dict[str, Figure]:
    figures = {f"always no-logo, {split} accuracy": found.blind(split).accuracy for split in (VAL, TEST)}
    for name, entry in found.trained.items():
        title = "transfer" if name == TRANSFER else entry.variant.title
        figures[f"{title}, val accuracy"] = entry.scores[VAL].accuracy
        figures[f"{title}, test accuracy"] = entry.scores[TEST].accuracy
        figures[f"{title}, logo recall"] = entry.scores[TEST].logo_recall
        figures[f"{title}, false positives"] = entry.scores[TEST].false_positives
        figures[f"{title}, loss of the first epoch"] = Figure(entry.fitted.epochs[0].loss)
    return figures


def _differs(found: Finding) -> dict[str, str]:
    photos = "drawings by code" if found.options.made else "other photos"
    arch, origin = _transferred(found)
    loss = "pixels as published" if found.options.as_published else "normalised pixels: the mistake is corrected"
    differs = {
        "": photos,
        "baseline CNN, loss of the first epoch": f"{photos}; {loss}",
        "transfer, val accuracy": f"{photos}; {arch} with {origin} instead of ResNet-18 v2",
    }
    differs["transfer, test accuracy"] = differs["transfer, logo recall"] = differs["transfer, val accuracy"]
    return differs


def _claims(found: Finding) -> tuple[Claim, ...]:
    baseline, transfer = found.trained.get(BASELINE), found.trained.get(TRANSFER)
    if baseline is None or transfer is None:
        return ()
    before, after, blind = (
        score.accuracy for score in (baseline.scores[TEST], transfer.scores[TEST], found.blind(TEST))
    )
    return (
        Claim(
            "transfer learning is more accurate than the small network",
            f"{after.value:.3f} ({after.interval}) against {before.value:.3f} ({before.interval})",
            after.value > before.value,
        ),
        Claim(
            "the small network learns logos: it reaches 0.76 on test",
            f"{before.value:.3f}; always no-logo, which looks at nothing, has {blind.value:.3f}",
            None if before.low is None else before.low > blind.value,
        ),
    )


def _transferred(found: Finding) -> tuple[str, str]:
    """The network of transfer and the origin of its weights."""
    model = model_of(found.settings.transfer, found.options)
    origin = f"the weights in {model.weights.name}" if model.weights else "random weights"
    sources = {"package": "ImageNet weights of a package", "download": "the library's own weights"}
    return model.arch, sources.get(str(model.pretrained), origin)


def _notes(found: Finding) -> tuple[str, ...]:
    settings, view = found.settings, found.view
    arch, origin = _transferred(found)
    pixels = "normalised" if view.normalised else "of 0 to 255"
    how = "of the raw photo" if view.resize_px is None else f"of the photo resized to {view.resize_px}"
    notes = [
        *found.logos.notes,
        f"Transfer is from {arch} with {origin}; its new output layer begins with Xavier's weights, magnitude 2.24.",
        f"Networks see {view.px} pixels {how}, {pixels}. {settings.epochs} epochs, batches of {settings.batch}.",
        f"SGD with rate {settings.rate:g} and weight decay {settings.weight_decay:g}, without momentum.",
    ]
    for entry in found.trained.values():
        never = never_predicted(found.logos.labels_of(TEST), entry.predicted, found.logos.labels)
        if never:
            notes.append(f"{entry.variant.title} never says {', '.join(never)}, which the test photos show.")
    if found.classifier is not None:
        notes.append(f"`photo-trainer classify-logo {found.classifier.name} PHOTO` names the logo in a photo.")
    return tuple(notes)
