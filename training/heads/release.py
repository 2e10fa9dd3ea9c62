"""From a head's folder to a published version: join it with its backbone, prove parity, ask the gate, publish."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from training.errors import ExportError, GateRefused
from training.evaluation import quality
from training.heads.folder import CARD, Kept, load
from training.heads.judged import LABELS, against, both
from training.heads.served import joined
from training.models.spec import ModelSpec
from training.publish import gate
from training.publish.bundle import Bundle, decider
from training.publish.export import Exported
from training.publish.parity import ENGINES, ONNXRUNTIME, Parity, compare, onnxruntime_engine, outputs_of
from training.publish.repository import MODEL_FILE, Evidence, publish, read_manifest, versions
from training.runs.run import QUALITY, spec_of

#: Largest difference of a score between scikit-learn on torch's features and the whole graph.
TOLERANCE = 1e-3


def bundle_of(kept: Kept, spec: ModelSpec) -> Bundle:
    """The whole graph, compared on the kept photos with what scikit-learn said of them, in both engines.

    Only the float32 file is made: a kernel in fp16 or int8 is another head.

    Raises:
        ExportError: ONNX Runtime decides otherwise than scikit-learn did.
    """
    model = joined(kept.source, kept.graph, kept.images)
    decide = decider(spec, kept.about["decision"])
    rows: list[Parity] = []
    for engine, start in ENGINES.items():
        found = outputs_of(start(model), kept.images)
        rows.append(compare(MODEL_FILE, engine, kept.expected, found, decide, TOLERANCE))
    served = next(row for row in rows if row.engine == ONNXRUNTIME)
    if not served.passed:
        raise ExportError(
            f"ONNX Runtime decides {served.agreement:.2%} of the photos as scikit-learn, largest difference "
            f"{served.max_abs_difference:.1e}"
        )
    return Bundle(Exported(model, served.max_abs_difference), {}, tuple(rows))


def release(folder: Path, repository: Path, name: str | None, forced: str | None) -> tuple[Path, Bundle, gate.Verdict]:
    """Publishes a head as the next version of a quality model.

    Args:
        folder: What `folder.keep` wrote.
        repository: The Triton model repository.
        name: Of the model; `photo_quality` by default.
        forced: Why to publish whatever the gate says; None asks it.

    Raises:
        GateRefused: The gate refused; nothing was published.
        PublishError: Labels or tensors differ from those of the versions there.
        ExportError: The graph does not decide as the head does.
    """
    kept = load(folder)
    spec = spec_of(QUALITY, LABELS, kept.source.geometry)
    if name is not None:
        spec = replace(spec, name=name)
    verdict = verdict_of(kept, spec, repository)
    if verdict.refusals and forced is None:
        raise GateRefused(f"{spec.name} of {folder} is not published: {'; '.join(verdict.refusals)}")
    bundle = bundle_of(kept, spec)
    about = kept.about
    evidence = Evidence(
        about["data_sha256"],
        {
            "test": {name: figure["value"] for name, figure in about["figures"].items()},
            "intervals": {name: [figure["low"], figure["high"]] for name, figure in about["figures"].items()},
            "photos": about["photos"],
        },
        dict(about["decision"]),
        {key: about[key] for key in ("name", "estimator", "network", "weights", "weights_sha256", "spread", "remarks")},
        verdict.as_json(),
        forced,
        {CARD: (folder / CARD).read_text()},
    )
    return publish(spec, repository, bundle, evidence), bundle, verdict


def verdict_of(kept: Kept, spec: ModelSpec, repository: Path) -> gate.Verdict:
    """What the gate said of the head, and of it beside the newest version that sees photos in the same way."""
    model_dir = repository / spec.name
    published = versions(model_dir)
    if not published or _sides(model_dir, published[-1]) != spec.input_px:
        return kept.verdict
    manifest = read_manifest(model_dir, published[-1])
    engine = onnxruntime_engine(onnx.load(model_dir / str(published[-1]) / MODEL_FILE))
    newer = _view(kept, kept.expected[-1], kept.about["decision"])
    champion = _view(kept, outputs_of(engine, kept.images)[-1], manifest["calibration"])
    return both(kept.verdict, against(newer, champion, kept.groups, published[-1]))


def _sides(model_dir: Path, version: int) -> int:
    (images,) = onnx.load(model_dir / str(version) / MODEL_FILE, load_external_data=False).graph.input
    return int(images.type.tensor_type.shape.dim[1].dim_value)


def _view(kept: Kept, levels: np.ndarray, decision: dict[str, float]) -> quality.QualityView:
    labels = np.clip(np.round(kept.ratings), 1, len(LABELS)).astype(np.int64) - 1
    return quality.QualityView(levels.astype(np.float64), labels, kept.ratings, decision["good_threshold"])


def write_bundle(folder: Path, out: Path) -> tuple[list[Path], Bundle]:
    """Writes the whole graph and parity.json without publishing; raises ExportError as `bundle_of`."""
    kept = load(folder)
    bundle = bundle_of(kept, spec_of(QUALITY, LABELS, kept.source.geometry))
    out.mkdir(parents=True, exist_ok=True)
    (out / MODEL_FILE).write_bytes(bundle.exported.model.SerializeToString(deterministic=True))
    parity: list[dict[str, Any]] = bundle.parity_json()
    (out / "parity.json").write_text(json.dumps(parity, indent=1) + "\n")
    return [out / MODEL_FILE, out / "parity.json"], bundle
