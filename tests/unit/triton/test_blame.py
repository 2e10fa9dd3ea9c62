"""The path of a photo before a Triton that answers as a test decides: blame falls only where it belongs.

Photos are of one colour, which their ids tell: red is crimson, blue is azure.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from consumer import events
from consumer.contract import Geometry, Views
from consumer.events import Photo
from consumer.fetch.hosts import Hosts
from consumer.order_watch import OrderWatch
from consumer.pipeline import Pipeline
from consumer.resilience import Dependencies, RetrySchedule, StuckRecords, retry_within_budget
from consumer.telemetry import Metrics
from consumer.triton.inference import TritonClient
from consumer.triton.serving import Serving
from tests.fake_triton import FakeTriton, Pixels, Row, contract_of, honest, reddish, serving
from tests.fakes import RecordingLog, World, record, uploaded_json
from tests.harness import eventually

Spoil = Callable[[str, Pixels, Row], Awaitable[Row]]
_SIZE = 32


class Bench:
    """The path with everything in memory but the real client of Triton; `spoil` changes, holds or refuses an answer."""

    def __init__(self, fake: FakeTriton, models: Serving) -> None:
        self.fake, self.world, self.log, metrics = fake, World(), RecordingLog(), Metrics()
        self.spoil: Spoil | None = None
        fake.row = self._row
        self.dependencies = Dependencies(self.log, metrics)
        judgement = replace(self.world.steps().judgement(), prepare=self._prepare, infer=models.infer)
        steps = replace(self.world.steps(), judgement=lambda: judgement)
        self._pipeline = Pipeline(
            steps,
            hosts=Hosts(steps.fetch, self.log, metrics),
            dependencies=self.dependencies,
            retry=retry_within_budget(2, self.log, metrics),
            schedule=RetrySchedule(0, (1.0,)),
            log=self.log,
            metrics=metrics,
            stuck=StuckRecords(metrics),
            order=OrderWatch(self.log, metrics),
        )
        self.tasks: list[asyncio.Task[Any]] = []

    def upload(self, prefix: str, count: int, *colours: str) -> None:
        for number in range(count):
            name = f"{prefix}{number}-{colours[number % len(colours)]}"
            one = self.world.delivery(record(uploaded_json(photo_id=name), offset=len(self.tasks)))
            self.tasks.append(asyncio.create_task(self._pipeline.handle(one)))

    async def outcomes(self, deadline_s: float = 30.0) -> dict[str, str]:
        """The outcome of each photo, once all have one; their brands are checked."""
        async with asyncio.timeout(deadline_s):
            await asyncio.gather(*self.tasks)
        for _, tags in self.world.published:
            expected = "crimson" if tags.photo_id.endswith("red") else "azure"
            assert [brand.brand for brand in tags.brands] == [expected], tags.photo_id
        tagged = {tags.photo_id: "tagged" for _, tags in self.world.published}
        dead = {str(events.parse(letter.record).photo_id): letter.reason for letter in self.world.dead}
        assert len(tagged) + len(dead) == len(self.tasks)
        return {**tagged, **dead}

    def says(self, words: str) -> bool:
        """Whether Triton is said to be lost, in these words."""
        return any(words in loss for loss in self.dependencies.losses)

    async def _row(self, model: str, pixels: Pixels) -> Row:
        row = honest(self.fake, model, pixels)
        return row if self.spoil is None else await self.spoil(model, pixels, row)

    @staticmethod
    async def _prepare(photo: Photo) -> Views:
        pixels = np.zeros((_SIZE, _SIZE, 3), np.uint8)
        pixels[..., 0 if photo.photo_id.endswith("red") else 2] = 250
        return {Geometry(_SIZE, _SIZE): pixels}


@asynccontextmanager
async def bench_with(deadline_s: float) -> AsyncIterator[Bench]:
    """The path under the contract that the fake serves, which is watched as in the service."""
    async with serving(FakeTriton(size=_SIZE)) as fake, TritonClient(fake.url, deadline_s=deadline_s) as client:
        models = Serving(client, await contract_of(client))
        bench = Bench(fake, models)
        watch = asyncio.create_task(_watch(models, bench.dependencies))
        try:
            yield bench
        finally:
            for task in (watch, *bench.tasks):
                task.cancel()
            await asyncio.gather(watch, *bench.tasks, return_exceptions=True)


async def _watch(models: Serving, dependencies: Dependencies) -> None:
    while True:
        await dependencies.retry_until_available("triton", models.check)
        await asyncio.sleep(1)


def refused(status: str) -> Spoil:
    async def spoil(*_: object) -> Row:
        raise ValueError(status, "as told")

    return spoil


async def of_other_length(model: str, _: Pixels, row: Row) -> Row:
    return [*row, 0.0] if model == "brand_logo" else row


async def empty(*_: object) -> Row:
    return []


async def no_numbers(_: str, __: Pixels, row: Row) -> Row:
    return [float("nan")] * len(row)


async def silent(*_: object) -> Row:
    await asyncio.sleep(20)
    return []


#: What is wrong with each answer of a Triton for a while, and the words of it that /ready says.
OUTAGES: dict[str, tuple[Spoil, str]] = {
    "overloaded": (refused("RESOURCE_EXHAUSTED"), "RESOURCE_EXHAUSTED"),
    "failing": (refused("INTERNAL"), "fails on a photo that it scored before"),
    "refusing": (refused("INVALID_ARGUMENT"), "fails on a photo that it scored before"),
    "cancelling": (refused("CANCELLED"), "CANCELLED"),
    "outputs of another length": (of_other_length, "shape"),
    "outputs of no length": (empty, "without a row"),
    "not a number": (no_numbers, "outside 0..1"),
    "silent": (silent, "none for"),
}


@pytest.mark.parametrize("outage", OUTAGES)
async def test_what_is_wrong_with_every_answer_is_waited_for_in_words(outage: str) -> None:
    spoil, words = OUTAGES[outage]
    async with bench_with(deadline_s=0.3) as bench:
        bench.upload("before", 1, "red")
        await bench.outcomes()
        bench.spoil = spoil
        bench.upload("during", 20, "red", "blue")
        await eventually(lambda: bench.says(words))
        bench.spoil = None
        assert set((await bench.outcomes()).values()) == {"tagged"}
        await eventually(lambda: bench.dependencies.lost == ())


@pytest.mark.parametrize(
    ("status", "fails"),
    [("UNAVAILABLE", 2 / 3), ("RESOURCE_EXHAUSTED", 2 / 3), ("INTERNAL", 1 / 3), ("ABORTED", 1 / 3)],
)
async def test_a_triton_that_answers_by_chance_loses_nothing_and_blames_hardly_a_photo(
    status: str, fails: float
) -> None:
    chance, rolls = random.Random(3), dict[int, float]()

    async def spoil(_: str, __: Pixels, row: Row) -> Row:
        if rolls.setdefault(len(bench.fake.requests), chance.random()) < fails:
            raise ValueError(status, "as told")
        return row

    async with bench_with(deadline_s=5.0) as bench:
        bench.upload("before", 1, "red")
        await bench.outcomes()
        bench.spoil = spoil
        bench.upload("during", 10, "red", "blue")
        outcomes = list((await bench.outcomes()).values())
    # There are two attempts here and no round; with the defaults, a photo has sixteen attempts.
    assert outcomes.count("tagged") >= 10


async def never(_: str, __: Pixels, row: Row) -> Row:
    await asyncio.sleep(60)
    return row


#: What a model does with blue photos alone.
FAULTS: dict[str, Spoil] = {
    "fails": refused("INTERNAL"),
    "refuses": refused("INVALID_ARGUMENT"),
    "answers no numbers": no_numbers,
    "answers another length": of_other_length,
    "answers nothing": empty,
    "never answers": never,
}


@pytest.mark.parametrize(
    ("fault", "deadline_s"),
    # Of 5 s, twelve deadlines are too long for a test.
    [
        (fault, deadline_s)
        for fault in FAULTS
        for deadline_s in (0.1, 5.0)
        if (fault, deadline_s) != ("never answers", 5.0)
    ],
)
async def test_photos_that_a_model_cannot_judge_are_dead_letters_and_the_others_are_tagged(
    fault: str, deadline_s: float
) -> None:
    """Every second one; at the short deadline, no answer comes within it."""

    async def spoil(model: str, pixels: Pixels, row: Row) -> Row:
        await asyncio.sleep(0.15 if deadline_s < 1 else 0)
        bad = model == "brand_logo" and not reddish(pixels)
        return await FAULTS[fault](model, pixels, row) if bad else row

    async with bench_with(deadline_s) as bench:
        bench.upload("first", 1, "red")
        await bench.outcomes()
        bench.spoil = spoil
        bench.upload("photo", 8, "red", "blue")
        outcomes = await bench.outcomes()
        await eventually(lambda: bench.dependencies.lost == ())
    assert {outcome for name, outcome in outcomes.items() if name.endswith("red")} == {"tagged"}
    assert {outcome for name, outcome in outcomes.items() if name.endswith("blue")} <= {
        "inference_failed",
        "inference_rejected",
    }


async def test_a_photo_that_takes_long_is_tagged_and_is_no_outage() -> None:
    async def spoil(_: str, pixels: Pixels, row: Row) -> Row:
        await asyncio.sleep(0 if reddish(pixels) else 2.5)
        return row

    async with bench_with(deadline_s=1.0) as bench:
        bench.upload("before", 1, "red")
        await bench.outcomes()
        bench.spoil = spoil
        bench.upload("slow", 1, "blue")
        bench.upload("fast", 5, "red")
        assert set((await bench.outcomes()).values()) == {"tagged"}
        assert bench.fake.begun.count("brand_logo") <= 7 + 3  # each photo once, and what is known to be good
    assert bench.log.named("dependency.lost") == []
