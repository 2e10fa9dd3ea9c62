"""Judges each photo alone: prints its scores, which every contender must come to, and what is served, as JSON.

`python -m benchmarks.peers.reference FOLDER NAME...`
"""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.peers.job import MODELS, SyncJob
from consumer.events import PhotoUploaded, Source

job = SyncJob()
answers = {}
for name in sys.argv[2:]:
    pixels = job.pixels(Path(sys.argv[1], name).read_bytes())
    scores = (job.ask(*model, seen[np.newaxis])[0] for model, seen in zip(MODELS, pixels, strict=True))
    tags = job.tags(PhotoUploaded(name, name, datetime.now(UTC)), *scores, Source("none", 0, 0))
    answers[name] = {"score": tags.quality.score, "probabilities": tags.probabilities}
geometries = {name: asdict(geometry) for name, geometry in job.contract.geometries.items()}
print(json.dumps({"photos": answers, "models": job.contract.models, "geometries": geometries}))
