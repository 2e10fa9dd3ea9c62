"""Verifies a loaded model version: its files by their hashes, and its answers to the golden photos of its manifest."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import quantiles
from time import perf_counter
from typing import Final

import numpy as np
import numpy.typing as npt

from consumer.contract import Geometry
from consumer.errors import NotFound, PhotoRejected, Retryable
from consumer.events import Pixels
from consumer.imaging.decode import decode
from consumer.imaging.limits import PrepareLimits
from consumer.operations.model_folder import Golden, GoldenPhoto, ModelFolder
from consumer.triton.failures import Unanswered
from consumer.triton.repository import Loaded, RepositoryClient

#: So often the golden photos are asked for, all at once: answers must be the same alone and beside others.
_ROUNDS: Final = 10

Outputs = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output for one photo: of all its values, in all rounds, the one that is farthest from what is expected."""

    photo: str
    output: str
    #: The place of the value in the output.
    index: int
    expected: float
    #: None where there is no such answer; `problem` says why.
    got: float | None
    difference: float | None
    within: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found of one version."""

    model: str
    version: int
    #: The file that answers, and how far its outputs may be from those of the manifest.
    file: str
    tolerance: float
    comparisons: tuple[Comparison, ...]
    #: Files that differ from what was published.
    damaged: tuple[str, ...]
    requests: int
    #: Of answered requests, milliseconds; None where none was answered.
    p50_ms: float | None
    p99_ms: float | None

    @property
    def passed(self) -> bool:
        """Whether all files and all answers are as they were published."""
        return not self.damaged and all(each.within for each in self.comparisons)

    @property
    def summary(self) -> str:
        """In words, how much of it is not."""
        wrong = sum(not each.within for each in self.comparisons)
        parts = [f"{wrong} of {len(self.comparisons)} answers differ"] if wrong else []
        parts += [f"other files: {', '.join(self.damaged)}"] if self.damaged else []
        return "; ".join(parts) or "all answers and files are as published"


@dataclass(frozen=True, slots=True)
class _Asked:
    """The answer to one request, or why there is none."""

    outputs: Outputs
    problem: str
    took_ms: float | None


async def verify(
    folder: ModelFolder, client: RepositoryClient, limits: PrepareLimits, model: str, version: int
) -> Verification:
    """Asks Triton for the golden photos of a version, at exactly this version, and compares.

    Raises:
        NotFound: the version is not in the folder or not loaded, or was published without golden photos.
        DependencyDown: Triton does not answer.
        ContractMismatch: its configuration does not say which file it serves.
    """
    manifest = await asyncio.to_thread(folder.manifest, model, version)
    if manifest.golden is None:
        raise NotFound(f"{model} {version} was published without golden photos: publish it again to verify it")
    damaged = await asyncio.to_thread(folder.damaged, model, version, manifest)
    loaded = await client.describe(model, str(version))
    tolerance = tolerance_of(manifest.golden, loaded.file, f"{model} {version}")
    seen = {
        photo.file: await asyncio.to_thread(_pixels, folder, model, version, photo.file, loaded, limits)
        for photo in manifest.golden.photos
    }
    ask = partial(_ask, client, model, str(version), loaded)
    asked: dict[str, list[_Asked]] = {file: [] for file in seen}
    for _ in range(_ROUNDS):
        for file, answer in zip(seen, await asyncio.gather(*map(ask, seen.values())), strict=True):
            asked[file].append(answer)
    comparisons = [
        compared
        for photo in manifest.golden.photos
        for compared in worst([compare(photo, each.outputs, each.problem, tolerance) for each in asked[photo.file]])
    ]
    times = [each.took_ms for answers in asked.values() for each in answers if each.took_ms is not None]
    p50_ms, p99_ms = _percentiles(times)
    requests = sum(map(len, asked.values()))
    return Verification(
        model, version, loaded.file, tolerance, tuple(comparisons), tuple(damaged), requests, p50_ms, p99_ms
    )


def tolerance_of(golden: Golden, file: str, name: str) -> float:
    """How far the outputs of the served file may be from those of the manifest.

    Raises:
        NotFound: the manifest does not say.
    """
    if file not in golden.tolerances:
        known = ", ".join(golden.tolerances)
        raise NotFound(f"{name} is served from {file or 'an unnamed file'}, its golden photos are for {known}")
    return golden.tolerances[file]


def compare(photo: GoldenPhoto, outputs: Outputs, problem: str, tolerance: float) -> list[Comparison]:
    """Each expected output with the answer, at its worst value."""
    return [
        _compared(photo.file, name, values, outputs.get(name), problem, tolerance)
        for name, values in photo.outputs.items()
    ]


def _compared(  # noqa: PLR0917 - the parts of one comparison
    photo: str, name: str, values: Sequence[float], got: npt.NDArray[np.float32] | None, problem: str, tolerance: float
) -> Comparison:
    if got is None or len(got) != len(values):
        found = "no such output" if got is None else f"{len(got)} values, not {len(values)}"
        return Comparison(photo, name, 0, values[0], None, None, within=False, problem=problem or found)
    apart = np.abs(got.astype(np.float64) - values)
    index = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
    difference = float(apart[index])
    # A difference that is no number is not within.
    within = difference <= tolerance
    return Comparison(photo, name, index, values[index], float(got[index]), difference, within)


def worst(rounds: Sequence[list[Comparison]]) -> list[Comparison]:
    """Of the comparisons of the same outputs in several rounds, the worst of each."""
    return [max(same, key=_badness) for same in zip(*rounds, strict=True)]


def _badness(each: Comparison) -> tuple[bool, bool, float]:
    return not each.within, each.difference is None, each.difference or 0.0


def _pixels(  # noqa: PLR0917 - where a photo is, and how it is seen
    folder: ModelFolder, model: str, version: int, file: str, loaded: Loaded, limits: PrepareLimits
) -> Pixels | str:
    """What the model sees of a golden photo, which has the model's size; or why it cannot be read."""
    geometry = Geometry(loaded.input_size, loaded.input_size)
    try:
        return decode(folder.read(model, version, file), [geometry], limits).views[geometry]
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except PhotoRejected as rejected:
        return str(rejected)


async def _ask(client: RepositoryClient, model: str, version: str, loaded: Loaded, seen: Pixels | str) -> _Asked:
    """One photo in a request of its own.

    Raises:
        DependencyDown: Triton does not answer at all.
    """
    if isinstance(seen, str):
        return _Asked({}, seen, None)
    began = perf_counter()
    try:
        outputs = await client.answer(model, version, seen, batched=loaded.batched)
    except (Unanswered, PhotoRejected, Retryable) as failed:
        return _Asked({}, failed.detail, None)
    return _Asked(outputs, "", (perf_counter() - began) * 1000)


def _percentiles(times_ms: Sequence[float]) -> tuple[float | None, float | None]:
    if not times_ms:
        return None, None
    cuts = quantiles(times_ms, n=100, method="inclusive") if len(times_ms) > 1 else [times_ms[0]] * 99
    return cuts[49], cuts[98]
