"""A run's evaluated network as a candidate for release: its files, their parity, and its evidence."""

from collections.abc import Collection
from typing import Final

import numpy as np

from training.evaluation import brand, quality
from training.evaluation.run import CARD, DRIFT, Evaluated, write
from training.publish import gate
from training.publish.bundle import CPU_FILES, PARITY_PHOTOS, Bundle, make
from training.publish.manifest import Evidence
from training.publish.release import Candidate, metrics_of

#: Folders of a run that evaluation and export write.
EVALUATION, EXPORT = "evaluation", "export"
_TEXTS: Final = frozenset({CARD, DRIFT})


def candidate_of(found: Evaluated, wanted: Collection[str] = CPU_FILES) -> Candidate:
    """The candidate with the wanted files besides the float32 one; writes the evaluation into the run's folder."""
    written = write(found, found.run.path / EVALUATION)
    evaluation, test = found.evaluation, found.splits.test
    values = evaluation.as_json()
    evidence = Evidence(
        found.run.data().sha256,
        {**metrics_of(values["figures"]), **{name: values[name] for name in ("foreign", "photos", "alarms")}},
        dict(evaluation.decision),
        {
            "run": found.run.name,
            "recipe": found.run.recipe().model_dump(mode="json"),
            "result": found.run.result(),
            "environment": found.run.environment(),
        },
        texts={path.name: path.read_text() for path in written if path.name in _TEXTS},
    )
    checks = tuple(gate.absolute(evaluation, found.run.data().leaks))
    return Candidate(
        found.spec,
        found.run.path,
        checks,
        _view(found),
        test.images,
        test.answers.groups,
        lambda: bundle_of(found, wanted),
        evidence,
    )


def _view(found: Evaluated) -> gate.View:
    answers, decision = found.splits.test.answers, found.evaluation.decision
    if found.evaluation.kind == "brand":
        return brand.view(answers, decision["temperature"], decision["threshold"])
    return quality.view(answers, decision["temperature"], decision["good_threshold"])


def bundle_of(found: Evaluated, wanted: Collection[str] = CPU_FILES) -> Bundle:
    """The files of a version: int8 ranges from val photos, parity on test, foreign and val photos.

    Raises:
        ExportError: The graph differs from torch.
    """
    splits = found.splits
    photos = np.concatenate((splits.test.images, splits.foreign.images, splits.val.images))
    # spread over all of them, so that every kind of photo is compared
    chosen = np.unique(np.linspace(0, len(photos) - 1, min(PARITY_PHOTOS, len(photos))).astype(np.int64))
    # lists are sorted by label: the first photos would calibrate for one label
    shuffled = np.random.default_rng(0).permutation(splits.val.images)
    return make(found.spec, found.net, found.evaluation.decision, shuffled, photos[chosen], wanted)
