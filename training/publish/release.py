"""Releases a candidate, a trained network or a head: compares it with the champion, asks the gate, publishes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from training.errors import GateRefused
from training.evaluation.decide import View
from training.evaluation.quality import QualityView
from training.models.spec import ModelSpec
from training.publish import gate
from training.publish.bundle import Bundle
from training.publish.manifest import Evidence, read_manifest
from training.publish.repository import publish, versions, write_graphs
from training.serving.engines import onnxruntime_engine, outputs_of
from training.serving.files import FP32_FILE
from training.statistics import Texts

_OVERRULED: Final = "--force needs --reason: the manifest keeps why a version was published in spite of the gate"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that is not published yet, with its evaluation."""

    spec: ModelSpec
    #: The folder that it comes from.
    origin: Path
    #: The gate's checks that do not depend on a published version.
    checks: tuple[gate.Check, ...]
    #: Its predictions for test photos, those photos (uint8 [N, S, S, 3]), and their groups.
    view: View
    images: np.ndarray
    groups: Texts
    #: Makes the files of the version; raises ExportError where they decide otherwise than the model.
    bundle: Callable[[], Bundle]
    #: For the manifest; the release adds the gate's decision.
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Release:
    """A published version."""

    path: Path
    bundle: Bundle
    decision: gate.GateDecision


def decide(candidate: Candidate, repository: Path) -> gate.GateDecision:
    """The gate's decision; a newest version with the same labels and input is the champion to compare with.

    Publishing refuses other labels or another input with a message of its own.
    """
    model_dir = repository / candidate.spec.name
    published = versions(model_dir)
    if not published:
        return gate.GateDecision(candidate.checks)
    champion = published[-1]
    manifest, graph = read_manifest(model_dir, champion), onnx.load(model_dir / str(champion) / FP32_FILE)
    side = graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    if manifest["labels"] != list(candidate.spec.labels) or side != candidate.spec.input_px:
        return gate.GateDecision(candidate.checks)
    found = outputs_of(onnxruntime_engine(graph), candidate.images)[-1].astype(np.float64)
    name = "good_threshold" if isinstance(candidate.view, QualityView) else "threshold"
    other = replace(candidate.view, probabilities=found, threshold=manifest["calibration"][name])
    compared = gate.against_champion(candidate.view, other, candidate.groups, champion)
    return gate.GateDecision((*candidate.checks, *compared), champion)


def release(candidate: Candidate, repository: Path, forced: str | None = None, short: str | None = None) -> Release:
    """Publishes a candidate as the next version of its model.

    Args:
        candidate: What to publish.
        repository: The Triton model repository.
        forced: Why to publish whatever the gate decides; None obeys it.
        short: Why to publish although minor checks, which more training would pass, fail; None refuses that too.

    Raises:
        GateRefused: The gate refused; nothing was published.
        PublishError: Labels or tensors differ from those of the versions there.
        ExportError: The graph decides otherwise than the model.
    """
    if forced is not None and not forced.strip():
        raise GateRefused(_OVERRULED)
    decision = decide(candidate, repository)
    if short is not None and decision.refusals and decision.refusals == decision.minor_refusals:
        forced = short
    if decision.refusals and forced is None:
        raise GateRefused(
            f"{candidate.spec.name} of {candidate.origin} is not published: {'; '.join(decision.refusals)}"
        )
    bundle = candidate.bundle()
    evidence = replace(candidate.evidence, gate=decision.as_json(), forced=forced)
    return Release(publish(candidate.spec, repository, bundle, evidence), bundle, decision)


def metrics_of(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The test figures that a manifest keeps, each with its interval."""
    return {
        "test": {name: figure["value"] for name, figure in figures.items()},
        "intervals": {name: [figure["low"], figure["high"]] for name, figure in figures.items()},
    }


def write_bundle(bundle: Bundle, folder: Path) -> list[Path]:
    """Writes the graphs of a version and parity.json into a folder, without publishing anything."""
    folder.mkdir(parents=True, exist_ok=True)
    written = write_graphs(bundle, folder)
    (folder / "parity.json").write_text(json.dumps(bundle.parity_json(), indent=1) + "\n")
    return [*written, folder / "parity.json"]
