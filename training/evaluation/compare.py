"""Two runs side by side on the same test photos, each under its own decision."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from rich.console import Console

from training.data.manifest import Manifest
from training.data.photos import TEST, Photo
from training.errors import RunError
from training.evaluation.answers import Answers, Figure, measured
from training.evaluation.decide import View, decision_of, point_values, view_of
from training.evaluation.predict import predict_split
from training.evaluation.thresholds import Target
from training.models.served import deployable
from training.progress import task
from training.runs.run import Run, load_model, load_split
from training.statistics import Texts

#: Figures of which less is better.
LESS_IS_BETTER: Final = frozenset({
    "fpr_no_logo", "tagged_fpr_no_logo", "calibration_error", "brier", "mean_absolute_error",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both runs, and the second one's minus the first one's, by a paired bootstrap."""

    name: str
    left: Figure
    right: Figure
    difference: Figure

    @property
    def verdict(self) -> str:
        """Whether the second run is better, where the whole interval of the difference says so."""
        gain, loss = self.difference.low > 0, self.difference.high < 0
        if self.name in LESS_IS_BETTER:
            gain, loss = loss, gain
        return "better" if gain else "worse" if loss else "no clear difference"


def differences(new: View, old: View, groups: Texts, names: Sequence[str]) -> dict[str, Figure]:
    """Figures of `new` minus those of `old` on the same photos, with paired bootstrap intervals."""

    def of(which: np.ndarray) -> dict[str, float]:
        one, other = point_values(new.take(which)), point_values(old.take(which))
        return {name: one[name] - other[name] for name in names}

    return measured(of, groups, {})


def compare(left: Run, right: Run, console: Console) -> tuple[int, list[Row]]:
    """The number of test photos, and every figure of both runs.

    Raises:
        RunError: The runs were tested on other photos or labels, or one is not trained.
    """
    _check_alike(left, right)
    (left_view, groups), (right_view, _) = (_seen(run, console) for run in (left, right))
    names = list(point_values(left_view))
    found = differences(right_view, left_view, groups, names)
    sides = [_figures(view, groups) for view in (left_view, right_view)]
    return len(groups), [Row(name, sides[0][name], sides[1][name], found[name]) for name in names]


def _figures(view: View, groups: Texts) -> Mapping[str, Figure]:
    return measured(lambda which: point_values(view.take(which)), groups, {})


def _key(photo: Photo) -> tuple[Hashable, ...]:
    """What a photo and its label are, wherever the file lies."""
    return photo.sha256, photo.box or (), photo.damage or (), photo.label or "", photo.rating or 0.0


def _check_alike(left: Run, right: Run) -> None:
    mine, other = left.data(), right.data()
    if (mine.task, mine.labels) != (other.task, other.labels):
        raise RunError(
            f"{left.name} and {right.name} cannot be compared: one tells {_labels(mine)}, the other {_labels(other)}"
        )
    tests = [Counter(map(_key, manifest.of(TEST))) for manifest in (mine, other)]
    if not tests[0]:
        raise RunError(f"{left.name} has no test photos to compare on")
    only = [(tests[0] - tests[1]).total(), (tests[1] - tests[0]).total()]
    if any(only):
        raise RunError(
            f"{left.name} and {right.name} cannot be compared: their test photos or those photos' labels differ, "
            f"{only[0]} of {tests[0].total()} are only in {left.name}, {only[1]} of {tests[1].total()} only in "
            f"{right.name}; train both on the same data with the same data.split, or put the photos to test on into a "
            "folder test"
        )


def _labels(manifest: Manifest) -> str:
    return f"{manifest.task} by {', '.join(manifest.labels)}"


def _seen(run: Run, console: Console) -> tuple[View, Texts]:
    """The run's test photos in the order of their keys, which is equal for both runs."""
    net = deployable(load_model(run)[0])
    kind, photos = run.recipe().task, run.data().of(TEST)
    with task(console, f"photos, {run.name}", sum(len(load_split(run, split)) for split in ("val", TEST))) as done:
        val, test = (predict_split(run, split, net, done).answers for split in ("val", TEST))
    order = np.array(sorted(range(len(photos)), key=lambda place: repr(_key(photos[place]))), np.int64)
    answers: Answers = test.take(order)
    return view_of(kind, answers, decision_of(kind, val, Target())), answers.groups
