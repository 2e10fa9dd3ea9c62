"""A head's folder: all that publishing needs, so that a study's head can be published later.

`backbone.pt` (frozen network), `head.onnx` (features to score and levels), `head.joblib` (the scikit-learn pipeline,
for people: nothing here loads it, since unpickling runs code), `test.npz` (test photos with scikit-learn's predictions
for them), `head.json` (decision, figures, the gate's decision, data), `card.md`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
import onnx
from numpy.typing import NDArray

from training.data.decode import Geometry
from training.data.manifest import Manifest
from training.data.photos import Photo
from training.data.pixels import stack
from training.errors import RunError
from training.evaluation.card import bounds_text, share_text
from training.evaluation.outcome import plain
from training.heads.evaluation import LABELS, SplitFeatures, evaluate
from training.heads.features import Backbone, weights_sha256
from training.heads.served import SPREAD, quality_graph, quality_of
from training.models.networks import empty, trunk
from training.publish import gate
from training.runs import checkpoint

#: Test photos that a folder holds to measure parity on; figures are measured on all test photos.
SAVED_PHOTOS: Final = 400
BACKBONE, GRAPH, PIPELINE = "backbone.pt", "head.onnx", "head.joblib"
TEST, ABOUT, CARD = "test.npz", "head.json", "card.md"


@dataclass(frozen=True, slots=True)
class Trained:
    """A classical head on a frozen backbone."""

    name: str
    source: Backbone
    #: A fitted classifier of 0 (poor) and 1 (good), or of levels 0..4.
    estimator: Any
    #: Photos that it was fitted on.
    photos: tuple[Photo, ...]
    #: Further sentences for the card.
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedHead:
    """The content of a head's folder."""

    source: Backbone
    graph: onnx.ModelProto
    #: uint8 [N, S, S, 3], ratings [N], groups [N], and scikit-learn's score [N, 1] and levels [N, 5] for them.
    images: NDArray[np.uint8]
    ratings: NDArray[np.float64]
    groups: NDArray[np.str_]
    expected: list[np.ndarray]
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def decision(self) -> gate.GateDecision:
        """The gate's decision when the head was saved."""
        return gate.GateDecision(tuple(gate.Check(**check) for check in self.about["gate"]["checks"]))


def save(folder: Path, trained: Trained, val: SplitFeatures, test: SplitFeatures) -> dict[str, Any]:
    """Evaluates a head and writes its folder; returns the content of head.json.

    Raises:
        ExportError: The classifier has no ONNX graph, or is not a quality model.
    """
    graph = quality_graph(trained.estimator, trained.source.width)
    found = evaluate(trained.estimator, trained.photos, val, test)
    data = Manifest("quality", LABELS, (*trained.photos, *val.photos, *test.photos))
    about: dict[str, Any] = {
        "name": trained.name,
        "estimator": " ".join(str(trained.estimator).split()),
        "network": trained.source.arch,
        "weights": trained.source.origin,
        "weights_sha256": trained.source.weights_sha256,
        "input_px": trained.source.geometry.input_size,
        "decision": {"good_threshold": found.threshold, "temperature": 1.0},
        "photos": {"train": len(trained.photos), "val": len(val.photos), "test": len(test.photos)},
        "figures": plain(found.figures),
        "gate": found.decision.as_json(),
        "data_sha256": data.sha256,
        "spread": SPREAD if len(trained.estimator.classes_) == 2 else "",
        "remarks": list(trained.remarks),
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write_backbone(folder / BACKBONE, trained.source)
    (folder / GRAPH).write_bytes(graph.SerializeToString(deterministic=True))
    joblib.dump(trained.estimator, folder / PIPELINE)
    _write_test(folder / TEST, trained, test)
    checkpoint.write_text(folder / CARD, card(about))
    checkpoint.write_text(folder / ABOUT, json.dumps(about, indent=1) + "\n")
    return about


def _write_backbone(path: Path, source: Backbone) -> None:
    state = {name: value.detach().cpu().contiguous() for name, value in source.net.state_dict().items()}
    checkpoint.write(path, {"arch": source.arch, "geometry": asdict(source.geometry), "state_dict": state})


def _write_test(path: Path, trained: Trained, test: SplitFeatures) -> None:
    chosen = np.unique(np.linspace(0, len(test.photos) - 1, min(SAVED_PHOTOS, len(test.photos))).astype(int))
    photos = [test.photos[index] for index in chosen]
    images = stack(photos, trained.source.geometry, 2).permute(0, 2, 3, 1).contiguous().numpy()
    score, levels = quality_of(trained.estimator.predict_proba(np.asarray(test.features)[chosen]))
    values = {"images": images, "ratings": test.ratings[chosen], "groups": test.groups[chosen]}
    np.savez_compressed(path, **values, score=score, levels=levels)


def load(folder: Path) -> SavedHead:
    """Reads a head's folder.

    Raises:
        RunError: The folder does not hold a head, or its weights are not those that the head was fitted on.
    """
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text())
        graph = onnx.load(folder / GRAPH)
        with np.load(folder / TEST, allow_pickle=False) as test:
            arrays = {name: test[name] for name in ("images", "ratings", "groups", "score", "levels")}
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{folder} does not hold a saved head: {type(error).__name__}: {error}") from None
    source = _read_backbone(folder / BACKBONE, about)
    expected = [arrays["score"], arrays["levels"]]
    return SavedHead(source, graph, arrays["images"], arrays["ratings"], arrays["groups"], expected, about)


def _read_backbone(path: Path, about: Mapping[str, Any]) -> Backbone:
    saved = checkpoint.read(path)
    try:
        net = trunk(empty(saved["arch"], 2)).eval().requires_grad_(requires_grad=False)
        net.load_state_dict(saved["state_dict"])
        geometry = Geometry(**saved["geometry"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise RunError(f"{path}: {type(error).__name__}: {error}") from None
    found = weights_sha256(net)
    if found != about["weights_sha256"]:
        raise RunError(f"{path} holds other weights than the head was fitted on")
    return Backbone(saved["arch"], net, geometry, 0, found, about["weights"])


def card(about: Mapping[str, Any]) -> str:
    """The model card in Markdown."""
    figures = "\n".join(
        f"| {name.replace('_', ' ')} | {share_text(one['value'])} | {bounds_text(one['low'], one['high'])} |"
        for name, one in about["figures"].items()
    )
    photos = ", ".join(f"{count} {split}" for split, count in about["photos"].items())
    lines = [line for line in (about["spread"], *about["remarks"]) if line]
    checks = "\n".join(
        f"- {'passed' if check['passed'] else 'REFUSED'}: {check['name']}: {check['detail']}"
        for check in about["gate"]["checks"]
    )
    return (
        f"# Model card of the head {about['name']}\n\n"
        f"`{about['estimator']}` on features of {about['network']} ({about['weights']}) at {about['input_px']} px. "
        f"Photos: {photos}. Good: score of {about['decision']['good_threshold']:g} or more, chosen on val.\n\n"
        + "".join(f"{line}\n\n" for line in lines)
        + f"| figure on test | value | 95 % interval |\n|---|---|---|\n{figures}\n\n{checks}\n"
    )
