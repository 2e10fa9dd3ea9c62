"""A saved head as a candidate for release: joined with its backbone, and compared with scikit-learn."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from training.errors import ExportError
from training.evaluation import quality
from training.heads.evaluation import LABELS
from training.heads.folder import CARD, SavedHead, load
from training.heads.served import joined
from training.publish.bundle import Bundle
from training.publish.manifest import Evidence
from training.publish.parity import compare
from training.publish.release import Candidate, metrics_of
from training.runs.run import QUALITY, spec_of
from training.serving.decision import decider
from training.serving.engines import ENGINES, ONNXRUNTIME, outputs_of
from training.serving.files import FP32_FILE

#: Largest difference of a score between scikit-learn on torch's features and the whole graph.
TOLERANCE: Final = 1e-3
_TRAINING: Final = ("name", "estimator", "network", "weights", "weights_sha256", "spread", "remarks")


def candidate_of(folder: Path, name: str | None = None) -> Candidate:
    """The candidate of a folder that `folder.save` wrote, as a version of `photo_quality` or of the model named.

    Raises:
        RunError: As `folder.load`.
    """
    head = load(folder)
    spec = spec_of(QUALITY, LABELS, head.source.geometry)
    about = head.about
    evidence = Evidence(
        about["data_sha256"],
        {**metrics_of(about["figures"]), "photos": about["photos"]},
        dict(about["decision"]),
        {key: about[key] for key in _TRAINING},
        texts={CARD: (folder / CARD).read_text()},
    )
    levels, threshold = head.expected[-1].astype(np.float64), about["decision"]["good_threshold"]
    return Candidate(
        spec if name is None else replace(spec, name=name),
        folder,
        head.decision.checks,
        quality.QualityView(levels, quality.levels_of(head.ratings), head.ratings, threshold),
        head.images,
        head.groups,
        lambda: _bundle(head),
        evidence,
    )


def _bundle(head: SavedHead) -> Bundle:
    """The whole graph, compared on the saved photos with scikit-learn's predictions for them, in both engines.

    Only the float32 file is made: rounding a kernel to fp16 or int8 changes the head's decisions.

    Raises:
        ExportError: ONNX Runtime decides otherwise than scikit-learn did.
    """
    model = joined(head.source, head.graph, head.images)
    decide = decider(head.about["decision"])
    rows = {
        engine: compare(FP32_FILE, engine, head.expected, outputs_of(start(model), head.images), decide, TOLERANCE)
        for engine, start in ENGINES.items()
    }
    served = rows[ONNXRUNTIME]
    if not served.passed:
        raise ExportError(
            f"ONNX Runtime decides {served.agreement:.2%} of the photos as scikit-learn, largest difference "
            f"{served.max_abs_difference:.1e}"
        )
    return Bundle(model, {}, tuple(rows.values()))
