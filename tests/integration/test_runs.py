"""Runs on real servers and two versions that judge differently: what they say, what they write, and the way back."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from consumer.errors import Refused
from consumer.operations import promotion, run_diff, run_log, run_release, run_work, runs
from consumer.operations.promotion import Wish
from consumer.operations.run_release import Applied
from consumer.operations.run_work import Worked
from consumer.operations.runs import Plan
from consumer.reader import TagReader
from consumer.releases import ModelVersion
from consumer.runs.definition import Run, Selection
from consumer.service.run import Service
from consumer.settings import Settings
from consumer.telemetry import configure_logging
from tests.harness import World, by_key, dump, eventually, jpeg

FIRST = Wish(ModelVersion("photo_quality", "1"), ModelVersion("brand_logo", "1"))
SECOND = Wish(ModelVersion("photo_quality", "2"), ModelVersion("brand_logo", "2"))
#: Of the models of `tests/tiny_models.py`: the second versions give half of what the first give.
SCALES = {"1": 1.0, "2": 0.5}


def with_gates(world: World, **gates: float) -> Settings:
    """The settings of the world with gates for few photos that change much."""
    loose = {"min_photos": 1, "max_level_jumps": 1.0, "max_brands_lost": 1.0, "max_mean_shift": 1.0, **gates}
    return world.settings.model_copy(update={"gates": world.settings.gates.model_copy(update=loose)})


class Bench:
    """A world in which the first versions judge, and operations on it."""

    def __init__(self, world: World) -> None:
        self.world, self.settings = world, with_gates(world)
        self.log = configure_logging("debug", "json", world.log)
        self.sent = 0

    def upload(self, count: int) -> None:
        """Photos whose brightness and redness are their own."""
        for _ in range(count):
            name = f"photo{self.sent}"
            self.world.photos.answers[name] = jpeg((60 + 4 * (self.sent % 40), 40, 30))
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

    async def work(self, run: Run) -> Worked:
        return await run_work.work(self.settings, self.log, run, lambda _: None)

    async def promote(self, run: Run, *, forced: bool = False) -> Applied:
        return await run_release.promote(self.settings, self.log, run.run_id, "better", lambda *_: None, forced=forced)

    async def rollback(self, run: Run) -> Applied:
        return await run_release.rollback(self.settings, self.log, run.run_id, "worse", lambda *_: None)

    def answers(self, run: Run) -> dict[str, Any]:
        return {answer.photo_id: answer for answer in run_log.Answers(self.settings.kafka, run)}

    def check(self, number: int, version: str) -> None:
        """Every photo has the scores of one version offline, in Redis and in the result topic alike."""
        latest = {key: json.loads(message.value()) for key, message in by_key(self.world.tags()).items()}
        assert len(latest) == self.sent
        with TagReader(self.settings.redis.url) as reader:
            held = reader.get_many(list(latest))
        for photo_id, value in latest.items():
            colour = (60 + 4 * (int(photo_id.removeprefix("photo")) % 40), 40, 30)
            expected = SCALES[version] * sum(colour) / 765
            assert value["quality"]["score"] == pytest.approx(expected, abs=0.01), photo_id
            assert value["models"] == {"photo_quality": version, "brand_logo": version}
            assert value["version"].split(".")[1] == f"{number:06d}", photo_id
            assert value["version"] == held[photo_id].version
            assert value["quality"]["score"] == held[photo_id].quality.score
            assert [brand["brand"] for brand in value["brands"]] == [each.brand for each in held[photo_id].brands]


@pytest.fixture
async def bench(changing: World) -> Bench:
    found = Bench(changing)
    await promotion.promote(found.settings, FIRST, "the first", forced=True)
    return found


async def test_a_run_is_compared_promoted_and_taken_back_while_photos_come(bench: Bench) -> None:
    async with bench.world.service(bench.settings) as service:
        bench.upload(30)
        await bench.tagged(service)
        bench.check(1, "1")
        before, published = dump(bench.settings.redis.url), len(bench.world.tags())
        run = await bench.run()
        assert run.total == 30
        worked = await bench.work(run)
        assert (worked.complete, worked.outcomes) == (True, {"tagged": 30})
        # It writes its own topic alone.
        assert (dump(bench.settings.redis.url), len(bench.world.tags())) == (before, published)
        assert bench.world.dead() == bench.world.waiting() == []
        answers = bench.answers(run)
        assert len(answers) == 30
        for answer in answers.values():
            assert answer.after.quality.score == pytest.approx(answer.before.quality.score / 2, abs=1e-5)
            assert (answer.before.version.split(".")[1], answer.after.version.split(".")[1]) == ("000001", "000000")
            assert answer.format == "jpeg"
        report = (await run_diff.diff(bench.settings, run.run_id)).report
        assert (report.photos.compared, report.changes.any.count) == (30, 30)

        bench.upload(10)  # between the run and its promotion
        await bench.tagged(service)
        applied = await bench.promote(run)
        assert (applied.release, applied.written) == (2, 30)
        bench.upload(5)
        await bench.tagged(service)
        bench.check(2, "2")
        again = await bench.promote(run)
        assert (again.release, again.written, again.unchanged) == (2, 0, 30)
        bench.check(2, "2")

        back = await bench.rollback(run)
        assert (back.release, back.written) == (3, 30)
        bench.upload(5)
        await bench.tagged(service)
        bench.check(3, "1")
        assert (await bench.rollback(run)).written == 0
        bench.check(3, "1")
        with pytest.raises(Refused, match="release 3"):
            await bench.promote(run)
        assert {outcome for outcome, count in service.outcomes().items() if count} <= {"tagged", "unchanged"}
    stored = await asyncio.to_thread(run_log.read, bench.settings.kafka, run.run_id)
    assert (stored.state, stored.promoted, stored.rolled_back) == ("rolled back", 2, 3)
    assert [line.split(": ")[1] for line in stored.history] == ["promoted as release 2", "rolled back by release 3"]


async def test_workers_share_a_run(bench: Bench) -> None:
    async with bench.world.service(bench.settings) as service:
        bench.upload(60)
        await bench.tagged(service)
    run = await bench.run(rate=40)
    shares = await asyncio.gather(bench.work(run), bench.work(run))
    assert all(worked.complete for worked in shares)
    assert sum(worked.outcomes["tagged"] for worked in shares) >= 60
    assert len(bench.answers(run)) == 60


async def test_a_run_that_changes_too_much_is_promoted_only_by_force(bench: Bench) -> None:
    async with bench.world.service(bench.settings) as service:
        bench.upload(5)
        await bench.tagged(service)
        run = await bench.run()
        with pytest.raises(Refused, match="0 of 5 offsets are done"):
            await bench.promote(run)
        await bench.work(run)
        bench.settings = with_gates(bench.world, max_mean_shift=0.05)
        with pytest.raises(Refused, match="mean"):
            await bench.promote(run)
        assert (await bench.promote(run, forced=True)).release == 2
        bench.check(2, "2")


async def test_what_cannot_be_judged_is_an_answer_and_no_dead_letter(bench: Bench) -> None:
    async with bench.world.service(bench.settings) as service:
        bench.upload(3)
        await bench.tagged(service)
    bench.world.photos.answers["photo1"] = 404
    bench.world.send("odd", b"{}", "photo.uploaded")
    run = await bench.run()
    assert (await bench.work(run)).complete
    answers = bench.answers(run)
    assert {name: answer.reason for name, answer in answers.items()} == {
        "photo0": None,
        "photo1": "http_4xx",
        "photo2": None,
        "odd": "invalid_event",
    }
    assert answers["photo1"].before is not None
    assert bench.world.dead() == bench.world.waiting() == []


async def test_a_run_is_over_the_photos_that_were_chosen(bench: Bench) -> None:
    async with bench.world.service(bench.settings) as service:
        bench.upload(40)
        await bench.tagged(service)
    levels = {key: json.loads(each.value())["quality"]["level"] for key, each in by_key(bench.world.tags()).items()}
    chosen = {"ids": ("photo3", "photo7", "none"), "level": 2}
    by_id = await bench.run(selection=Selection(ids=chosen["ids"]))  # type: ignore[arg-type]
    await bench.work(by_id)
    assert set(bench.answers(by_id)) == {"photo3", "photo7"}
    by_level = await bench.run(selection=Selection(levels=(2,)))
    await bench.work(by_level)
    assert set(bench.answers(by_level)) == {name for name, level in levels.items() if level == 2} != set()
    part = await bench.run(offsets={0: range(1, 3)})
    await bench.work(part)
    assert {(each.source.partition, each.source.offset) for each in bench.answers(part).values()} == {(0, 1), (0, 2)}


async def test_thresholds_alone_are_decided_anew_without_a_photo(bench: Bench) -> None:
    async with bench.world.service(bench.settings) as service:
        bench.upload(40)
        await bench.tagged(service)
    bench.world.photos.answers.clear()
    asked = len(bench.world.photos.requests)
    run = await bench.run(replace(FIRST, good_threshold=0.2, brand_threshold=0.05), kind="retag")
    worked = await bench.work(run)
    assert (worked.complete, worked.outcomes["tagged"]) == (True, 40)
    answers = bench.answers(run)
    assert len(answers) == 40
    assert len(bench.world.photos.requests) == asked
    assert all(answer.after.quality.good for answer in answers.values() if answer.before.quality.score >= 0.2)
    assert any(answer.after.brands and not answer.before.brands for answer in answers.values())
    applied = await bench.promote(run)
    assert (applied.release, applied.written) == (2, 40)
    bench.check(2, "1")


async def test_a_run_that_is_paused_waits_and_one_that_is_cancelled_ends(bench: Bench) -> None:
    async with bench.world.service(bench.settings) as service:
        bench.upload(30)
        await bench.tagged(service)
    run = await bench.run(rate=10)
    work = asyncio.create_task(bench.work(run))
    await eventually(lambda: len(bench.answers(run)) > 2)
    await asyncio.to_thread(runs.move, bench.settings, run.run_id, "pause")
    assert not work.done()
    await asyncio.to_thread(runs.move, bench.settings, run.run_id, "resume")
    await eventually(lambda: len(bench.answers(run)) > 8)
    await asyncio.to_thread(runs.move, bench.settings, run.run_id, "cancel")
    worked = await work
    assert (worked.complete, worked.run.state) == (False, "cancelled")
    with pytest.raises(Refused, match="cancelled"):
        await bench.work(worked.run)
    await asyncio.to_thread(runs.delete, bench.settings, run.run_id)
    assert await asyncio.to_thread(run_log.read_all, bench.settings.kafka) == {}
