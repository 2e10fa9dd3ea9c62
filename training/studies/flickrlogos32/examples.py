"""Single photos, classified before and after transfer, as the article shows two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.data.photos import TEST, Photo
from training.data.read import read_bytes
from training.statistics import Floats
from training.studies.flickrlogos32.variants import BASELINE, TRANSFER, Trained
from training.studies.flickrlogos32.views import View, cut, load
from training.studies.labelled import LabelledPhotos
from training.studies.study import Figure, Table

#: The article's brands, as the data set names them and as the article does.
_NAMED: Final = {"bmw": "BMW", "fosters": "Foster's"}
_MOST: Final = 8
_HEAD: Final = ("brand", "before: answer", "before: brand's own", "after: answer", "after: brand's own")


@dataclass(frozen=True, slots=True)
class Example:
    """A test photo of a brand and both networks' probabilities."""

    photo: Photo
    brand: str
    labels: tuple[str, ...]
    before: Floats
    after: Floats

    def own(self, shares: Floats) -> float:
        """Probability of the photo's brand."""
        return float(shares[self.labels.index(self.brand)])

    def pixels(self, view: View) -> np.ndarray:
        """The photo as the networks see it: uint8 [px, px, 3]."""
        return cut(load(read_bytes(self.photo.uri), view), view.px)


def examples_of(logos: LabelledPhotos, trained: Mapping[str, Trained]) -> list[Example]:
    """The first test photo of the article's brands, or of the first brands where the data have neither."""
    if not {BASELINE, TRANSFER} <= trained.keys():
        return []
    brands = [label for label in logos.labels if label in _NAMED] or list(logos.labels[:-1][:_MOST])
    before, after = trained[BASELINE].probabilities, trained[TRANSFER].probabilities
    photos = logos.of(TEST)
    made = []
    for brand in brands:
        index = next((place for place, photo in enumerate(photos) if photo.label == brand), None)
        if index is not None:
            made.append(Example(photos[index], brand, logos.labels, before[index], after[index]))
    return made


def table_of(examples: Sequence[Example]) -> Table:
    """Answers in the article's words, and the probability of the photo's own brand, by both networks."""
    lines = []
    for example in examples:
        cells = [_NAMED.get(example.brand, example.brand)]
        for shares in (example.before, example.after):
            best = int(shares.argmax())
            cells += [f"With prob={shares[best]:.4f}, {example.labels[best]}", f"{example.own(shares):.4f}"]
        lines.append(tuple(cells))
    return Table(_HEAD, tuple(lines))


def figures_of(examples: Sequence[Example]) -> dict[str, Figure]:
    """Probability of the photo's own brand before and after transfer."""
    figures = {}
    for example in examples:
        name = _NAMED.get(example.brand, example.brand)
        for when, shares in (("before", example.before), ("after", example.after)):
            figures[f"{name} photo, probability {when} transfer"] = Figure(example.own(shares))
    return figures
