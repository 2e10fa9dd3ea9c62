"""A world with two versions of both models that judge differently, and the operations of `photo-tagger runs` on it."""

import asyncio
import json
from typing import Any

import pytest

from consumer.operations import run_log, run_release, run_work, runs
from consumer.operations.promotion import Wish
from consumer.operations.run_progress import Told, Worked
from consumer.operations.run_release import Applied
from consumer.operations.runs import Plan
from consumer.reader import TagReader
from consumer.releases import ModelVersion
from consumer.runs.definition import Run
from consumer.service.run import Service
from consumer.settings import Settings
from consumer.telemetry import configure_logging
from tests.harness import World, by_key, eventually, jpeg

FIRST = Wish(ModelVersion("photo_quality", "1"), ModelVersion("brand_logo", "1"))
SECOND = Wish(ModelVersion("photo_quality", "2"), ModelVersion("brand_logo", "2"))
#: Of the models of `tests/tiny_models.py`: the second versions give half of what the first give.
SCALES = {"1": 1.0, "2": 0.5}


def _colour(number: int) -> tuple[int, int, int]:
    return 60 + 4 * (number % 40), 40, 30


def with_gates(world: World, **gates: float) -> Settings:
    """The settings of the world with gates for few photos that change much."""
    loose = {"min_photos": 1, "max_level_jumps": 1.0, "max_brands_lost": 1.0, "max_mean_shift": 1.0, **gates}
    return world.settings.model_copy(update={"gates": world.settings.gates.model_copy(update=loose)})


class ChangeBench:
    """A world in which the first versions judge, and operations on it."""

    def __init__(self, world: World) -> None:
        self.world, self.settings = world, with_gates(world)
        self.log = configure_logging("debug", "json", world.log)
        self.sent = 0

    def upload(self, count: int) -> None:
        """Photos whose brightness and redness are their own."""
        for _ in range(count):
            name = f"photo{self.sent}"
            self.world.photos.answers[name] = self.photo(self.sent)
            self.world.upload(name)
            self.sent += 1

    async def tagged(self, service: Service) -> None:
        await eventually(
            lambda: service.outcomes().get("tagged", 0) + service.outcomes().get("unchanged", 0) >= self.sent
        )

    async def run(self, wish: Wish = SECOND, **plan: Any) -> Run:
        run = await runs.prepare(self.settings, wish, Plan(**plan), "a test")
        await asyncio.to_thread(runs.start, self.settings, run)
        return run

    async def work(self, run: Run, told: Told = lambda _: None) -> Worked:
        return await run_work.work(self.settings, self.log, run, told)

    async def promote(self, run: Run, *, forced: bool = False) -> Applied:
        return await run_release.promote(self.settings, self.log, run.run_id, "better", lambda *_: None, forced=forced)

    async def rollback(self, run: Run) -> Applied:
        return await run_release.rollback(self.settings, self.log, run.run_id, "worse", lambda *_: None)

    def answers(self, run: Run) -> dict[str, Any]:
        return {answer.photo_id: answer for answer in run_log.Answers(self.settings.kafka, run)}

    @staticmethod
    def photo(number: int) -> bytes:
        """A photo of its own colour."""
        return jpeg(_colour(number))

    @staticmethod
    def expected(photo_id: str, version: str) -> float:
        """The quality that a version gives a photo."""
        return SCALES[version] * sum(_colour(int(photo_id.removeprefix("photo")))) / 765

    def check(self, number: int, version: str) -> None:
        """Every photo has the scores of one version offline, in Redis and in the result topic alike."""
        latest = {key: json.loads(message.value()) for key, message in by_key(self.world.tags()).items()}
        assert len(latest) == self.sent
        with TagReader(self.settings.redis.url) as reader:
            held = reader.get_many(list(latest))
        for photo_id, value in latest.items():
            assert value["quality"]["score"] == pytest.approx(self.expected(photo_id, version), abs=0.01), photo_id
            assert value["models"] == {"photo_quality": version, "brand_logo": version}
            assert value["version"].split(".")[1] == f"{number:06d}", photo_id
            assert value["version"] == held[photo_id].version
            assert value["quality"]["score"] == held[photo_id].quality.score
            assert [brand["brand"] for brand in value["brands"]] == [each.brand for each in held[photo_id].brands]
