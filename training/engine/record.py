"""ENGINE.json beside a plan: what it was built from, with and for, and how near its answers are.

Whether a plan is up to date and whether it may be served are one question, asked here: with two answers, the builder
could call current what the server refuses.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from training.engine.gpu import Gpu
from training.engine.header import HEADER_BYTES, plan_version
from training.errors import EngineUnfit
from training.serving.files import PLAN_FILE, sha256

RECORD: Final = "ENGINE.json"


@dataclass(frozen=True, slots=True)
class Place:
    """What serves, as far as an engine depends on it."""

    tensorrt: str
    gpu: Gpu


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an engine is built from: the same recipe gives the same answers."""

    #: The published file, and its hash.
    file: str
    onnx_sha256: str
    #: fp16 or int8: what the engine computes in.
    precision: str
    #: The smallest batch, the one that it is fastest at, and the largest.
    batches: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Record:
    """The content of ENGINE.json."""

    model: str
    version: int
    recipe: Recipe
    place: Place
    plan_sha256: str
    built_at: str
    seconds: float
    #: Of the golden photos: how many, the largest difference of an output, and the bound.
    accuracy: dict[str, float]

    def text(self) -> str:
        """As it is written."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_record(folder: Path) -> Record:
    """The record of the engine in a folder.

    Raises:
        EngineUnfit: It is missing or is none.
    """
    try:
        found: dict[str, Any] = json.loads((folder / RECORD).read_bytes())
        recipe, place = found.pop("recipe"), found.pop("place")
        batches = tuple(int(size) for size in recipe.pop("batches"))
        return Record(
            **found,
            recipe=Recipe(**recipe, batches=(batches[0], batches[1], batches[2])),
            place=Place(place["tensorrt"], Gpu(**place["gpu"])),
        )
    except OSError as error:
        raise EngineUnfit(f"{RECORD} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise EngineUnfit(f"{RECORD} is no record of an engine") from None


def check(folder: Path, place: Place, recipe: Recipe | None = None) -> Record:
    """The record of an engine that can be served here; with a recipe, also only if it was built by it.

    Raises:
        EngineUnfit: It is missing, damaged, or was built for another place or by another recipe.
    """
    record = read_record(folder)
    try:
        with (folder / PLAN_FILE).open("rb") as stream:
            wrote = plan_version(stream.read(HEADER_BYTES))
        found = sha256(folder / PLAN_FILE)
    except OSError as error:
        raise EngineUnfit(f"{PLAN_FILE} cannot be read: {error.strerror}") from None
    if found != record.plan_sha256:
        raise EngineUnfit(f"{PLAN_FILE} is not the one of its {RECORD}: its building was cut off, or it is damaged")
    for what, was, here in (
        ("TensorRT", wrote, place.tensorrt),
        ("GPU", record.place.gpu.name, place.gpu.name),
        ("compute capability", record.place.gpu.capability, place.gpu.capability),
        ("driver branch", record.place.gpu.driver_branch, place.gpu.driver_branch),
    ):
        if was != here:
            raise EngineUnfit(f"it was built with {what} {was}, here is {here}")
    if recipe is not None and record.recipe != recipe:
        raise EngineUnfit("the published graph, the precision or the batches have changed")
    return record
