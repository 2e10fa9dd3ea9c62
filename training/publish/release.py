"""From a run to a published version: evaluate, export, ask the gate, publish."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from rich.console import Console

from training.errors import GateRefused
from training.evaluation import brand, quality
from training.evaluation.run import CARD, DRIFT, Evaluated, evaluate, write
from training.evaluation.thresholds import Target
from training.models.spec import ModelSpec
from training.publish import gate
from training.publish.bundle import PARITY_PHOTOS, Bundle, make
from training.publish.parity import onnxruntime_engine, outputs_of
from training.publish.repository import MODEL_FILE, Evidence, publish, read_manifest, versions
from training.runs.run import Run

#: Folders of a run that evaluation and export write.
EVALUATION, EXPORT = "evaluation", "export"
_OVERRULED: Final = "--force needs --reason: the manifest keeps why a version was published in spite of the gate"


@dataclass(frozen=True, slots=True)
class Released:
    """A published version and what led to it."""

    path: Path
    found: Evaluated
    bundle: Bundle
    verdict: gate.Verdict


def bundle_of(found: Evaluated) -> Bundle:
    """The files of a version: int8 ranges from val photos, parity on test, foreign and val photos.

    Raises:
        ExportError: The graph does not compute what torch computes.
    """
    splits = found.splits
    photos = np.concatenate((splits.test.images, splits.foreign.images, splits.val.images))
    # spread over all of them, so that every kind of photo is compared
    chosen = np.unique(np.linspace(0, len(photos) - 1, min(PARITY_PHOTOS, len(photos))).astype(np.int64))
    return make(found.spec, found.net, found.evaluation.decision, _shuffled(splits.val.images), photos[chosen])


def _shuffled(images: np.ndarray) -> np.ndarray:
    """Lists are sorted by label: the first photos would calibrate for one label."""
    mixed: np.ndarray = np.random.default_rng(0).permutation(images)
    return mixed


def judge(found: Evaluated, repository: Path) -> gate.Verdict:
    """What the gate says of a run, beside the newest version in a repository on the same test photos."""
    leaks = found.run.data().leaks
    checks = gate.absolute(found.evaluation, leaks)
    model_dir = repository / found.spec.name
    published = versions(model_dir)
    if not published or not _comparable(found.spec, model_dir, published[-1]):
        return gate.Verdict(tuple(checks))
    champion = published[-1]
    checks += gate.against_champion(
        _challenger(found), _champion(found, model_dir, champion), found.splits.test.answers.groups, champion
    )
    return gate.Verdict(tuple(checks), champion)


def _comparable(spec: ModelSpec, model_dir: Path, version: int) -> bool:
    """Whether labels are the same; publishing refuses the rest with its own words."""
    return bool(read_manifest(model_dir, version)["labels"] == list(spec.labels))


def _challenger(found: Evaluated) -> brand.BrandView | quality.QualityView:
    answers, decision = found.splits.test.answers, found.evaluation.decision
    if found.evaluation.kind == "brand":
        return brand.view(answers, decision["temperature"], decision["threshold"])
    return quality.view(answers, decision["temperature"], decision["good_threshold"])


def _champion(found: Evaluated, model_dir: Path, version: int) -> brand.BrandView | quality.QualityView:
    """The published version on the same photos, with its own threshold."""
    test, decision = found.splits.test, read_manifest(model_dir, version)["calibration"]
    engine = onnxruntime_engine(onnx.load(model_dir / str(version) / MODEL_FILE))
    probabilities = outputs_of(engine, test.images)[-1].astype(np.float64)
    if found.evaluation.kind == "brand":
        seen = brand.view(test.answers, 1.0, decision["threshold"])
        return replace(seen, probabilities=probabilities)
    return replace(quality.view(test.answers, 1.0, decision["good_threshold"]), probabilities=probabilities)


def release(  # noqa: PLR0917 - what decides a release
    run: Run,
    repository: Path,
    target: Target,
    console: Console,
    name: str | None = None,
    forced: str | None = None,
    short: str | None = None,
) -> Released:
    """Evaluates, exports and publishes a run.

    Args:
        run: A finished run.
        repository: The Triton model repository.
        target: What the threshold must hold.
        console: Where progress goes.
        name: Another model name than the kind's own.
        forced: Why to publish whatever the gate says; None asks it.
        short: Why to publish what more training would mend, and nothing worse; None refuses it.

    Raises:
        GateRefused: The gate refused; nothing was published.
        PublishError: Labels or tensors differ from those of the versions there.
    """
    if forced is not None and not forced.strip():
        raise GateRefused(_OVERRULED)
    found = evaluate(run, target, console)
    if name is not None:
        found = replace(found, spec=replace(found.spec, name=name))
    written = write(found, run.path / EVALUATION)
    verdict = judge(found, repository)
    if short is not None and verdict.refusals and verdict.refusals == verdict.minor_refusals:
        forced = short
    if verdict.refusals and forced is None:
        raise GateRefused(f"{found.spec.name} of {run.path} is not published: {'; '.join(verdict.refusals)}")
    bundle = bundle_of(found)
    texts = {path.name: path.read_text() for path in written if path.name in {CARD, DRIFT}}
    evidence = Evidence(
        run.data().sha256,
        _metrics(found),
        dict(found.evaluation.decision),
        _training(run),
        verdict.as_json(),
        forced,
        texts,
    )
    return Released(publish(found.spec, repository, bundle, evidence), found, bundle, verdict)


def _metrics(found: Evaluated) -> dict[str, Any]:
    """The test figures that a manifest keeps, each with its interval."""
    values = found.evaluation.as_json()
    return {
        "test": {name: figure["value"] for name, figure in values["figures"].items()},
        "intervals": {name: [figure["low"], figure["high"]] for name, figure in values["figures"].items()},
        "foreign": values["foreign"],
        "photos": values["photos"],
        "alarms": values["alarms"],
    }


def _training(run: Run) -> Mapping[str, Any]:
    recipe = run.recipe().model_dump(mode="json")
    return {"run": run.name, "recipe": recipe, "result": run.result(), "environment": run.environment()}


def write_bundle(bundle: Bundle, folder: Path) -> list[Path]:
    """Writes the graphs of a version and parity.json into a folder, without publishing anything."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, graph in {MODEL_FILE: bundle.exported.model, **bundle.variants}.items():
        (folder / name).write_bytes(graph.SerializeToString(deterministic=True))
        made.append(folder / name)
    (folder / "parity.json").write_text(json.dumps(bundle.parity_json(), indent=1) + "\n")
    return [*made, folder / "parity.json"]
