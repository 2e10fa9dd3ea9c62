"""The study's plots, and its pictures of photos."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.figure import Figure as Canvas

from training.data.decode import Geometry
from training.data.photos import TRAIN, VAL
from training.data.pixels import photo_pixels
from training.evaluation.figures import BLUE, ORANGE, subplots
from training.studies.bottleneck.heads import Guess
from training.studies.labelled import LabelledPhotos
from training.studies.pictures import captioned, png, styled

_SAMPLE_PX, _COLUMNS = 72, 12
#: Sample photos of a class, for up to so many classes; one for more.
_SAMPLES: Final = {12: 3, 40: 2}
_SHOWN: Final = 8


@styled
def histogram(breeds: LabelledPhotos) -> bytes:
    """Photos of each class, and their mean."""
    counts = sorted(breeds.counts(TRAIN, VAL).values(), reverse=True)
    axes = subplots(6.0, 2.6)
    axes.bar(range(len(counts)), counts, width=1.0)
    axes.axhline(float(np.mean(counts)), color=ORANGE)
    axes.set_xlabel("classes, most photos first")
    axes.set_ylabel("photos")
    return png(axes)


@styled
def spread(losses: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> bytes:
    """Log losses of single classifiers and of bags, in a row of its own scale for each network."""
    rows = Canvas(figsize=(6.0, 1.1 * len(losses) + 0.5)).subplots(len(losses), 1, squeeze=False)[:, 0]
    for axes, (arch, sides) in zip(rows, losses.items(), strict=True):
        for place, (values, colour) in enumerate(zip(sides, (ORANGE, BLUE), strict=True)):
            axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.7)
            axes.plot([np.mean(values)] * 2, [place - 0.3, place + 0.3], color=colour)
        axes.set_yticks((0, 1), ("single", "bagged"))
        axes.set_ylim(1.6, -0.6)
        axes.set_title(arch, fontsize=9, loc="left")
        axes.ticklabel_format(axis="x", useOffset=False)
    rows[-1].set_xlabel("log loss on val")
    return png(rows[0])


def samples(breeds: LabelledPhotos) -> bytes:
    """Training photos of each class above its name, evenly spaced among the class's."""
    each = next((count for most, count in _SAMPLES.items() if len(breeds.labels) <= most), 1)
    geometry, train = Geometry(_SAMPLE_PX, _SAMPLE_PX), breeds.of(TRAIN)
    chosen = []
    for label in breeds.labels:
        own = [photo for photo in train if photo.label == label]
        chosen += [own[int(index)] for index in np.unique(np.linspace(0, len(own) - 1, each).astype(int))]
    names = [str(photo.label) for photo in chosen]
    return captioned([photo_pixels(photo, geometry) for photo in chosen], names, _COLUMNS)


@styled
def guessed(guesses: Sequence[Guess]) -> bytes:
    """Pictures from elsewhere, each beside the bars of its five most probable classes."""
    shown = guesses[:_SHOWN]
    rows = Canvas(figsize=(6.4, 1.35 * len(shown))).subplots(len(shown), 2, squeeze=False, width_ratios=(1, 2.6))
    for (left, right), guess in zip(rows, shown, strict=True):
        left.imshow(guess.seen)
        left.set_axis_off()
        names, shares = zip(*guess.classes, strict=True)
        right.barh(range(len(names)), shares, color=ORANGE if guess.flagged else BLUE)
        right.set_yticks(range(len(names)), names, fontsize=7)
        right.set_ylim(len(names) - 0.5, -0.5)
        right.set_xlim(0, 1)
        note = ": flagged, unlike what the head knows" if guess.flagged else ""
        right.set_title(f"{guess.picture}{note}", fontsize=7, loc="left")
    return png(rows[0, 0], 256)
