"""A run's evaluated network as a candidate for release: its files, their parity, and its evidence."""

from collections.abc import Collection
from typing import Any, Final

import numpy as np

from training.evaluation.decide import view_of
from training.evaluation.run import CARD, DRIFT, FOLDER, Evaluated, write
from training.models.served import deployable
from training.publish import gate
from training.publish.bundle import CPU_FILES, PARITY_PHOTOS, Bundle, make
from training.publish.manifest import Evidence
from training.publish.release import Candidate, metrics_of
from training.runs.run import Run, load_model

#: Of a run's folder, where its graphs are written.
EXPORT: Final = "export"
_TEXTS: Final = frozenset({CARD, DRIFT})


def candidate_of(found: Evaluated, wanted: Collection[str] = CPU_FILES) -> Candidate:
    """The candidate with the wanted files besides the float32 one; writes the evaluation into the run's folder."""
    written = write(found, found.run.path / FOLDER)
    evaluation, test = found.evaluation, found.splits.test
    values = evaluation.as_json()
    evidence = Evidence(
        found.run.data().sha256,
        {**metrics_of(values["figures"]), **{name: values[name] for name in ("foreign", "photos", "alarms", "apart")}},
        dict(evaluation.decision),
        _made_by(found.run),
        texts={path.name: path.read_text() for path in written if path.name in _TEXTS},
    )
    checks = tuple(gate.absolute(evaluation, found.run.data().leaks))
    return Candidate(
        found.spec,
        found.run.path,
        checks,
        view_of(evaluation.kind, test.answers, evaluation.decision),
        test.images,
        test.answers.groups,
        lambda: bundle_of(found, wanted),
        evidence,
    )


def _made_by(run: Run) -> dict[str, Any]:
    """What made a run's weights, without the folders of the machine that it ran on: they would be published."""
    result, environment = run.result(), run.environment()
    return {
        "run": run.name,
        "recipe": run.recipe().model_dump(mode="json", exclude={"data": {"root", "cache"}, "teacher": {"path"}}),
        "result": {name: value for name, value in result.items() if name != "run"},
        "environment": {name: value for name, value in environment.items() if name != "command"},
    }


def bundle_of(found: Evaluated, wanted: Collection[str] = CPU_FILES) -> Bundle:
    """The files of a version: int8 ranges from val photos, parity on test, foreign and val photos.

    They hold the weights of the final training, if the run has one; all else is of the network that was evaluated.

    Raises:
        ExportError: The graph differs from torch.
    """
    splits = found.splits
    photos = np.concatenate((splits.test.images, splits.foreign.images, splits.val.images))
    # spread over all of them, so that every kind of photo is compared
    chosen = np.unique(np.linspace(0, len(photos) - 1, min(PARITY_PHOTOS, len(photos))).astype(np.int64))
    # lists are sorted by label: the first photos would calibrate for one label
    shuffled = np.random.default_rng(0).permutation(splits.val.images)
    final = found.run.final
    net = deployable(load_model(final)[0]) if final else found.net
    return make(found.spec, net, found.evaluation.decision, shuffled, photos[chosen], wanted)
