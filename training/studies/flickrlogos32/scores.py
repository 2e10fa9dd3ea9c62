"""What a model's answers are worth where most photos show no logo. The last label is no_logo."""

from dataclasses import dataclass

import numpy as np

from training.statistics import Floats, Ints, wilson
from training.studies.study import Figure


@dataclass(frozen=True, slots=True)
class Score:
    """Answers on one set of photos, with Wilson's intervals."""

    accuracy: Figure
    #: Photos with a logo whose logo was named.
    logo_recall: Figure
    #: Photos without a logo for which one was named.
    false_positives: Figure

    @property
    def cells(self) -> tuple[str, str, str]:
        """For a table."""
        return (_cell(self.accuracy), _cell(self.logo_recall), _cell(self.false_positives))


def _cell(figure: Figure) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _share(flags: np.ndarray) -> Figure:
    interval = wilson(int(flags.sum()), len(flags))
    return Figure(float(flags.mean()) if len(flags) else 0.0, interval.low, interval.high)


def score(said: Ints, labels: Ints, no_logo: int) -> Score:
    """The score of labels that a model said."""
    branded = labels != no_logo
    return Score(_share(said == labels), _share((said == labels)[branded]), _share((said != no_logo)[~branded]))


def rejecting(probabilities: Floats, threshold: float) -> Ints:
    """The best brand where its share of all brands reaches a threshold, else no_logo: for a model of brands."""
    brands = probabilities[:, :-1] / np.maximum(probabilities[:, :-1].sum(1, keepdims=True), 1e-12)
    said: Ints = np.where(brands.max(1) >= threshold, brands.argmax(1), probabilities.shape[1] - 1)
    return said


def best_threshold(probabilities: Floats, labels: Ints) -> float:
    """The threshold of `rejecting` with the highest accuracy, to be chosen on val; above 1 where none helps."""
    tries = np.append(np.unique(np.round(np.linspace(0, 1, 101), 2)), 1.01)
    rates = [(rejecting(probabilities, float(threshold)) == labels).mean() for threshold in tries]
    return float(tries[int(np.argmax(rates))])
