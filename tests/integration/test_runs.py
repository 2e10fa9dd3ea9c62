"""Runs on real servers and two versions that judge differently: what they say, what they write, and the way back."""

import asyncio
import json
import multiprocessing
from dataclasses import replace
from multiprocessing.connection import Connection

import pytest

from consumer.errors import Refused
from consumer.events import Tags
from consumer.kafka import clients
from consumer.operations import promotion, run_diff, run_log, run_processes, runs
from consumer.operations.promotion import Wish
from consumer.operations.run_progress import Progress
from consumer.runs.definition import Kind, Selection
from tests.change_bench import FIRST, SECOND, ChangeBench, with_gates
from tests.harness import PARTITIONS, by_key, dump, eventually


def verdict(tags: Tags) -> tuple[int, bool, set[str]]:
    return tags.quality.level, tags.quality.good, {brand.brand for brand in tags.brands}


async def test_a_run_is_compared_promoted_and_taken_back_while_photos_come(change: ChangeBench) -> None:
    async with change.world.service(change.settings) as service:
        change.upload(30)
        await change.tagged(service)
        change.check(1, "1")
        before, published = dump(change.settings.redis.url), len(change.world.tags())
        run = await change.run()
        assert run.total == 30
        worked = await change.work(run)
        assert (worked.complete, worked.outcomes) == (True, {"tagged": 30})
        # It writes its own topic alone.
        assert (dump(change.settings.redis.url), len(change.world.tags())) == (before, published)
        assert change.world.dead() == change.world.waiting() == []
        answers = change.answers(run)
        assert len(answers) == 30
        for answer in answers.values():
            assert answer.after.quality.score == pytest.approx(answer.before.quality.score / 2, abs=1e-5)
            assert (answer.before.version.split(".")[1], answer.after.version.split(".")[1]) == ("000001", "000000")
            assert answer.format == "jpeg"
        report = (await run_diff.diff(change.settings, run.run_id)).report
        assert report.latency is not None
        assert report.photos_per_s == pytest.approx(30 / report.run.seconds)
        assert (report.photos.compared, report.quality.mean_shift) == (30, pytest.approx(-0.13, abs=0.02))
        changed = sum(verdict(each.before) != verdict(each.after) for each in answers.values())
        assert report.changes.any.count == changed > 0

        change.upload(10)  # between the run and its promotion
        await change.tagged(service)
        applied = await change.promote(run)
        assert (applied.release, applied.written) == (2, 30)
        change.upload(5)
        await change.tagged(service)
        change.check(2, "2")
        again = await change.promote(run)
        assert (again.release, again.written, again.unchanged) == (2, 0, 30)
        change.check(2, "2")

        back = await change.rollback(run)
        assert (back.release, back.written) == (3, 30)
        change.upload(5)
        await change.tagged(service)
        change.check(3, "1")
        assert (await change.rollback(run)).written == 0
        change.check(3, "1")
        with pytest.raises(Refused, match="now 3 is in force"):
            await change.promote(run)
        assert {outcome for outcome, count in service.outcomes().items() if count} <= {"tagged", "unchanged"}
    stored = await asyncio.to_thread(run_log.read, change.settings.kafka, run.run_id)
    assert (stored.state, stored.promoted, stored.rolled_back) == ("rolled back", 2, 3)
    lines = [line.split(": ")[1] for line in stored.history]
    assert lines == ["complete", "promoted as release 2", "rolled back by release 3"]


async def test_large_runs_are_applied_by_processes_that_end_with_each_other(
    change: ChangeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_processes, "_WORTH_SHARING", 10)
    monkeypatch.setattr(run_processes, "cores", lambda: 2)
    counts, look = list[int](), run_processes.wait

    def watched(connections: list[Connection], timeout_s: float) -> object:
        counts.append(len(multiprocessing.active_children()))
        if len(counts) == 1:
            multiprocessing.active_children()[0].kill()
        return look(connections, timeout_s)

    monkeypatch.setattr(run_processes, "wait", watched)
    async with change.world.service(change.settings) as service:
        change.upload(30)
        await change.tagged(service)
        run = await change.run()
        await change.work(run)
        with pytest.raises(Refused, match="repeat the command"):
            await change.promote(run)
        assert multiprocessing.active_children() == []
        applied = await change.promote(run)
        assert applied.written + applied.unchanged == 30
        assert max(counts) == 2
        change.check(2, "2")


async def test_promotions_under_traffic_fail_no_photo_and_mix_none(change: ChangeBench) -> None:
    async with change.world.service(change.settings) as service:
        for turn in range(5):
            change.upload(15)
            if turn:
                await promotion.promote(change.settings, SECOND if turn % 2 else FIRST, "a turn", forced=True)
            change.upload(15)
        await change.tagged(service)
        await eventually(lambda: not service.not_ready())
        change.upload(5)
        await change.tagged(service)
        assert service.outcomes().keys() == {"tagged"}
    judged = [json.loads(message.value()) for message in change.world.tags()]
    for value in judged:
        # By one release, whose versions and scores they are.
        release = int(value["version"].split(".")[1])
        version = "1" if release % 2 else "2"
        assert value["models"] == {"photo_quality": version, "brand_logo": version}
        assert value["quality"]["score"] == pytest.approx(change.expected(value["photo_id"], version), abs=0.01)
    assert {int(value["version"].split(".")[1]) for value in judged} >= {1, 5}
    assert change.world.dead() == change.world.waiting() == []


async def test_workers_share_a_run(change: ChangeBench) -> None:
    async with change.world.service(change.settings) as service:
        change.upload(60)
        await change.tagged(service)
    run = await change.run(rate=40)
    # Neither gets far before both have partitions.
    await asyncio.to_thread(runs.move, change.settings, run.run_id, "pause")
    work = asyncio.gather(change.work(run), change.work(run))
    half = PARTITIONS // 2
    await eventually(
        lambda: any(len(line["partitions"]) == half for line in change.world.events_logged("assignment.received"))
    )
    await asyncio.to_thread(runs.move, change.settings, run.run_id, "resume")
    shares = await work
    assert all(worked.complete for worked in shares)
    assert sum(worked.outcomes["tagged"] for worked in shares) >= 60
    assert len(change.answers(run)) == 60


@pytest.mark.parametrize("kind", ["rescore", "retag"])
async def test_a_worker_is_told_that_another_one_was_done_first(change: ChangeBench, kind: Kind) -> None:
    async with change.world.service(change.settings) as service:
        change.upload(5)
        await change.tagged(service)
    run = await change.run(SECOND if kind == "rescore" else Wish(good_threshold=0.2), kind=kind)
    await asyncio.to_thread(runs.move, change.settings, run.run_id, "pause")
    looks = list[Progress]()
    work = asyncio.create_task(change.work(run, looks.append))
    await eventually(lambda: looks)
    await asyncio.to_thread(run_log.complete, change.settings.kafka, run)
    worked = await work
    assert (worked.complete, worked.run.state) == (True, "complete")


async def test_a_run_that_changes_too_much_is_promoted_only_by_force(change: ChangeBench) -> None:
    async with change.world.service(change.settings) as service:
        change.upload(5)
        await change.tagged(service)
        run = await change.run()
        with pytest.raises(Refused, match="0 of 5 offsets are done"):
            await change.promote(run)
        await change.work(run)
        change.settings = with_gates(change.world, max_mean_shift=0.05)
        with pytest.raises(Refused, match="mean"):
            await change.promote(run)
        assert (await change.promote(run, forced=True)).release == 2
        change.check(2, "2")


async def test_what_cannot_be_judged_is_an_answer_and_no_dead_letter(change: ChangeBench) -> None:
    async with change.world.service(change.settings) as service:
        change.upload(3)
        await change.tagged(service)
    change.world.photos.answers["photo1"] = 404
    change.world.send("odd", b"{}", "photo.uploaded")
    run = await change.run()
    assert (await change.work(run)).complete
    answers = change.answers(run)
    assert {name: answer.reason for name, answer in answers.items()} == {
        "photo0": None,
        "photo1": "http_4xx",
        "photo2": None,
        "odd": "invalid_event",
    }
    assert answers["photo1"].before is not None
    assert change.world.dead() == change.world.waiting() == []
    assert change.world.events_logged("dead_letter.published") == []
    assert change.world.events_logged("photo.not_judged")


async def test_a_run_is_over_the_photos_that_were_chosen(change: ChangeBench) -> None:
    async with change.world.service(change.settings) as service:
        change.upload(40)
        await change.tagged(service)
    levels = {key: json.loads(each.value())["quality"]["level"] for key, each in by_key(change.world.tags()).items()}
    chosen = {"ids": ("photo3", "photo7", "none"), "level": 2}
    by_id = await change.run(selection=Selection(ids=chosen["ids"]))  # type: ignore[arg-type]
    await change.work(by_id)
    assert set(change.answers(by_id)) == {"photo3", "photo7"}
    by_level = await change.run(selection=Selection(levels=(2,)))
    await change.work(by_level)
    assert set(change.answers(by_level)) == {name for name, level in levels.items() if level == 2} != set()
    part = await change.run(offsets={0: range(1, 3)})
    await change.work(part)
    assert {(each.source.partition, each.source.offset) for each in change.answers(part).values()} == {(0, 1), (0, 2)}


async def test_thresholds_alone_are_decided_anew_without_a_photo(change: ChangeBench) -> None:
    async with change.world.service(change.settings) as service:
        change.upload(40)
        await change.tagged(service)
    change.world.photos.answers.clear()
    asked = len(change.world.photos.requests)
    run = await change.run(replace(FIRST, good_threshold=0.2, brand_threshold=0.05), kind="retag")
    worked = await change.work(run)
    assert (worked.complete, worked.run.state, worked.outcomes["tagged"]) == (True, "complete", 40)
    # Kafka keeps positions for some days; the run is complete without them.
    group = run.group(change.settings.kafka.group_id)
    admin = clients.admin_client(change.settings.kafka.bootstrap_servers, {})
    admin.delete_consumer_groups([group])[group].result()
    assert await asyncio.to_thread(run_log.done, change.settings.kafka, worked.run) == run.total
    answers = change.answers(run)
    assert len(answers) == 40
    assert len(change.world.photos.requests) == asked
    assert all(answer.after.quality.good for answer in answers.values() if answer.before.quality.score >= 0.2)
    assert any(answer.after.brands and not answer.before.brands for answer in answers.values())
    assert (await run_diff.diff(change.settings, run.run_id)).report.latency is None
    applied = await change.promote(run)
    assert (applied.release, applied.written) == (2, 40)
    change.check(2, "1")


async def test_a_run_that_is_paused_waits_and_one_that_is_cancelled_ends(change: ChangeBench) -> None:
    async with change.world.service(change.settings) as service:
        change.upload(30)
        await change.tagged(service)
    run = await change.run(rate=10)
    work = asyncio.create_task(change.work(run))
    await eventually(lambda: len(change.answers(run)) > 2)
    await asyncio.to_thread(runs.move, change.settings, run.run_id, "pause")
    assert not work.done()
    await asyncio.to_thread(runs.move, change.settings, run.run_id, "resume")
    await eventually(lambda: len(change.answers(run)) > 8)
    await asyncio.to_thread(runs.move, change.settings, run.run_id, "cancel")
    worked = await work
    assert (worked.complete, worked.run.state) == (False, "cancelled")
    with pytest.raises(Refused, match="cancelled"):
        await change.work(worked.run)
    await asyncio.to_thread(runs.delete, change.settings, run.run_id)
    assert await asyncio.to_thread(run_log.read_all, change.settings.kafka) == {}


async def test_dead_letters_are_judged_beside_what_became_of_them(change: ChangeBench) -> None:
    async with change.world.service(change.settings) as service:
        change.upload(3)
        change.world.photos.answers["photo1"] = 404
        await eventually(lambda: service.outcomes().get("dead_lettered") == 1)
    change.world.photos.answers["photo1"] = change.photo(1)
    run = await change.run(letters=True)
    assert (await change.work(run)).complete
    (answer,) = change.answers(run).values()
    assert (answer.photo_id, answer.before) == ("photo1", None)
    assert answer.source.topic == change.settings.kafka.uploads_topic
    assert len(change.world.dead()) == 1


async def test_a_run_that_follows_shadows_the_live_topic_until_it_is_stopped(change: ChangeBench) -> None:
    async with change.world.service(change.settings) as service:
        change.upload(5)
        await change.tagged(service)
        run = await change.run(follow=True)
        assert run.follows
        work = asyncio.create_task(change.work(run))
        change.upload(10)
        await change.tagged(service)
        await eventually(lambda: len(change.answers(run)) == 10)
        assert all(answer.before is not None for answer in change.answers(run).values())
        await asyncio.to_thread(runs.move, change.settings, run.run_id, "cancel")
        assert not (await work).complete
        change.upload(3)
        await change.tagged(service)
        with pytest.raises(Refused, match="cancelled"):
            await change.promote(run)
        assert (await change.promote(run, forced=True)).written == 10
    released = {
        key: json.loads(each.value())["version"].split(".")[1] for key, each in by_key(change.world.tags()).items()
    }
    assert [released[f"photo{number}"] for number in range(5)] == ["000001"] * 5
    assert {released[f"photo{number}"] for number in range(5, 18)} == {"000002"}
