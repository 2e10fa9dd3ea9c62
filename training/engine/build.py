"""Builds the engines of a model repository where they are missing or do not fit, and checks them before they serve."""

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from training.engine import files, tensorrt
from training.engine.accuracy import Answer, check_answers
from training.engine.gpu import this_gpu
from training.engine.library import bindings, library_version
from training.engine.record import Place, Record, check
from training.engine.source import CONFIG, Source, models_of, source_of, version_numbers
from training.errors import DataError, EngineUnfit

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Workshop:
    """What builds plans and loads them: TensorRT, or something in its place."""

    place: Place
    build: Callable[[bytes, tuple[int, int, int], bytes, Say], tensorrt.Built]
    load: Callable[[bytes, int], AbstractContextManager[Answer]]


def workshop() -> Workshop:
    """TensorRT and the GPU of this machine.

    Raises:
        ToolMissing: One of them is missing. The GPU is looked for first: without one TensorRT's calls may crash.
    """
    place = place_here()
    trt: Any = bindings()
    return Workshop(
        place,
        lambda graph, batches, timings, say: tensorrt.build(trt, graph, batches, timings, say),
        lambda plan, most: tensorrt.loaded(trt, plan, most),
    )


def place_here() -> Place:
    """The TensorRT and the GPU of this machine.

    Raises:
        ToolMissing: One of them is missing.
    """
    version = library_version()
    return Place(version, this_gpu())


def sources(repository: Path, models: Sequence[str], newest: int, precision: str) -> list[Source]:
    """The newest versions of each model, which Triton would load.

    Raises:
        DataError: The repository does not hold what engines need.
    """
    found = []
    for model in models_of(repository, models):
        numbers = version_numbers(repository / model)
        if not numbers:
            raise DataError(f"{repository / model} has no published version")
        found += [source_of(repository, model, number, precision) for number in numbers[-newest:]]
    return found


def build_engine(source: Source, engines: Path, shop: Workshop, say: Say) -> Record | None:
    """Builds the engine of a version and puts it into its place; None if the one that is there fits.

    Raises:
        EngineError: It cannot be built or written.
        GateRefused: Its answers are not good enough; the old one stays.
        DataError: The published files cannot be read.
    """
    folder = engines / source.model / str(source.version)
    try:
        check(folder, shop.place, source.recipe)
    except EngineUnfit as why:
        say(f"{source.name}: building, since {why}")
    else:
        return None
    began_s = time.monotonic()
    timings = files.timing_file(shop.place)
    built = shop.build(
        source.graph(),
        source.recipe.batches,
        files.read_timings(engines / timings),
        lambda line: say(f"{source.name}: {line}"),
    )
    with shop.load(built.plan, source.recipe.batches[-1]) as answer:
        accuracy = check_answers(source, answer)
    record = Record(
        source.model, source.version, source.recipe, shop.place, hashlib.sha256(built.plan).hexdigest(),
        datetime.now(UTC).isoformat(timespec="seconds"), round(time.monotonic() - began_s, 1), accuracy,
    )  # fmt: skip
    files.place_engine(engines, built.plan, record)
    files.place_file(engines, timings, built.timings)
    say(f"{source.name}: built in {record.seconds:.0f} s, at most {accuracy['largest_difference']:.1e} away")
    return record


def build_all(found: Sequence[Source], repository: Path, engines: Path, shop: Workshop, say: Say) -> list[Record]:
    """Builds what is missing or does not fit; the engines that were built.

    Raises:
        EngineError: As `build_engine`, or another builder is at work there.
        GateRefused: As `build_engine`.
        DataError: As `build_engine`.
    """
    built = []
    with files.locked(engines):
        for source in found:
            record = build_engine(source, engines, shop, say)
            if record is None:
                say(f"{source.name}: up to date")
            else:
                built.append(record)
        # After the engines: a version that a new configuration knows is there by then.
        for model in sorted({source.model for source in found}):
            files.copy_configuration(repository, engines, model)
    return built


def check_all(engines: Path, models: Sequence[str], newest: int, place: Place, rebuild: str) -> list[Record]:
    """The records of all engines that Triton would load from a folder.

    Raises:
        EngineUnfit: One is missing or does not fit, and with which command it is built again.
    """
    found = []
    for model in _built_models(engines, models, rebuild):
        numbers = version_numbers(engines / model)
        if not numbers:
            raise EngineUnfit(f"{engines / model} holds no engine; build it: {rebuild}")
        for number in numbers[-newest:]:
            try:
                found.append(check(engines / model / str(number), place))
            except EngineUnfit as why:
                raise EngineUnfit(f"the engine of {model} {number} does not fit: {why}; build it: {rebuild}") from None
    return found


def _built_models(engines: Path, models: Sequence[str], rebuild: str) -> list[str]:
    try:
        return models_of(engines, models)
    except DataError:
        wanted = ", ".join(models) or f"any model with configs/{CONFIG}"
        raise EngineUnfit(f"{engines} holds no engines of {wanted}; build them: {rebuild}") from None
