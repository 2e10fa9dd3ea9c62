"""Predictions of a run's model, before a version is published."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from training.data.decode import Geometry, decode, square
from training.data.read import read_bytes
from training.errors import Unreadable
from training.models.served import normalise
from training.runs.run import QUALITY, Run, load_model

_TOP = 3


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one photo, or the reason why there is none."""

    photo: str
    #: Label to probability, best first; levels 1..5 for quality.
    probabilities: dict[str, float]
    #: Expected level as 0..1; None for brands.
    score: float | None = None
    error: str | None = None

    def as_json(self) -> dict[str, object]:
        """Plain values without the empty ones."""
        values = {"photo": self.photo, "probabilities": self.probabilities, "score": self.score, "error": self.error}
        return {name: value for name, value in values.items() if value not in (None, {})}


def predict(run: Run, photos: Sequence[Path]) -> Iterator[Prediction]:
    """Predictions without the temperature that publishing adds.

    Yields:
        One prediction per photo, in order.
    """
    net, spec = load_model(run)
    quality = run.recipe().task == QUALITY
    geometry = Geometry(spec.input_px, spec.input_px)
    for path in photos:
        try:
            pixels = square(decode(read_bytes(str(path)), geometry.resize_short_side), geometry)
        except Unreadable as error:
            yield Prediction(str(path), {}, error=str(error))
            continue
        with torch.no_grad():
            logits = net(normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None]))
        shares = torch.softmax(logits[0], 0)
        order = range(len(shares)) if quality else shares.argsort(descending=True)[:_TOP].tolist()
        named = {spec.labels[index]: round(float(shares[index]), 4) for index in order}
        score = round(float(shares @ torch.linspace(0, 1, len(shares))), 4) if quality else None
        yield Prediction(str(path), named, score)
