"""MANIFEST.json of a published version: what it was made from and with, its files, figures and decision."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from training.environment import environment, git_commit
from training.models.spec import ModelSpec
from training.publish import golden
from training.publish.bundle import Bundle
from training.serving.files import MANIFEST, sha256


@dataclass(frozen=True, slots=True)
class Evidence:
    """The content of a manifest besides the version's files."""

    data_manifest_sha256: str
    metrics: Mapping[str, Any]
    #: The values of the decision, as the config's `decision.<version>` repeats them.
    calibration: Mapping[str, float]
    training: Mapping[str, Any] = field(default_factory=dict)
    #: The gate's decision, and the reason for publishing in spite of it.
    gate: Mapping[str, Any] = field(default_factory=dict)
    forced: str | None = None
    #: Texts that go into the version directory by name: the model card, the drift baseline.
    texts: Mapping[str, str] = field(default_factory=dict)


def read_manifest(model_dir: Path, version: int) -> dict[str, Any]:
    """The manifest of a published version. Raises FileNotFoundError or ValueError if it is missing or not JSON."""
    manifest: dict[str, Any] = json.loads((model_dir / str(version) / MANIFEST).read_text())
    return manifest


def manifest_of(spec: ModelSpec, version: int, staged: Path, bundle: Bundle, evidence: Evidence) -> dict[str, Any]:
    """The manifest of a version whose other files are staged."""
    return {
        "model": spec.name,
        "version": version,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(Path(__file__).parent),
        "files": {
            str(entry.relative_to(staged)): sha256(entry) for entry in sorted(staged.rglob("*")) if entry.is_file()
        },
        "data_manifest_sha256": evidence.data_manifest_sha256,
        "environment": environment(),
        "labels": list(spec.labels),
        "label_checksum": spec.label_checksum,
        "metrics": dict(evidence.metrics),
        "calibration": dict(evidence.calibration),
        "training": dict(evidence.training),
        "cpu": bundle.cpu,
        "parity": bundle.parity_json(),
        "golden": golden.answers(spec, bundle),
        "gate": dict(evidence.gate),
        "forced": evidence.forced,
    }
