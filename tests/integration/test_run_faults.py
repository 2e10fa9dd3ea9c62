"""Runs as they go wrong: two operators at once, commands that were cut off, logs and positions that are gone."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from consumer import events
from consumer.errors import DependencyDown, NotFound, Refused, SettingsError
from consumer.operations import promotion, run_count, run_diff, run_log, run_release, runs
from consumer.operations.runs import Plan
from consumer.runs.definition import Run, Selection
from consumer.service import release_log
from tests.change_bench import FIRST, SECOND, ChangeBench
from tests.harness import by_key, eventually


def ask(change: ChangeBench, question: str, *subject: Any) -> None:
    """Has Kafka do what a method of its admin client asks for, and waits."""
    # Its answers come for as long as the client lives.
    client = AdminClient({"bootstrap.servers": change.settings.kafka.bootstrap_servers})
    for future in getattr(client, question)([*subject]).values():
        future.result(30)


def forget_records(change: ChangeBench, topic: str, partition: int, before: int) -> None:
    """What retention does."""
    ask(change, "delete_records", TopicPartition(topic, partition, before))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No service runs that would have to follow a release before what came meanwhile is judged again."""
    monkeypatch.setattr(run_release, "_FOLLOWED_S", 0.0)


async def tagged(change: ChangeBench, photos: int) -> None:
    async with change.world.service(change.settings) as service:
        change.upload(photos)
        await change.tagged(service)


async def named(change: ChangeBench, name: str, **plan: Any) -> Run:
    run = await runs.prepare(change.settings, SECOND, Plan(**plan), "a test", name)
    await asyncio.to_thread(runs.start, change.settings, run)
    return run


async def test_two_operators_who_promote_the_same_at_once_make_one_release(change: ChangeBench) -> None:
    both = [promotion.promote(change.settings, SECOND, "both", forced=True) for _ in range(2)]
    changes = await asyncio.gather(*both)
    assert [each.release.number for each in changes] == [2, 2]
    assert sorted(each.appended for each in changes) == [False, True]


@pytest.mark.usefixtures("alone")
async def test_a_run_that_two_operators_promote_at_once_can_be_taken_back(change: ChangeBench) -> None:
    await tagged(change, 8)
    run = await change.run()
    await change.work(run)
    both = await asyncio.gather(change.promote(run), change.promote(run))
    assert {each.release for each in both} == {2}
    change.check(2, "2")
    number = len(release_log.history(change.settings.kafka)) + 1
    back = await asyncio.gather(change.rollback(run), change.rollback(run))
    assert {each.release for each in back} == {number}
    change.check(number, "1")


@pytest.mark.usefixtures("alone")
async def test_the_name_of_a_run_that_was_deleted_may_be_used_again(change: ChangeBench) -> None:
    await tagged(change, 6)
    for first in (2, 4):
        run = await named(change, "night")
        assert (await change.work(run)).complete
        assert (await change.promote(run)).release == first
        change.check(first, "2")
        assert (await change.rollback(run)).release == first + 1
        change.check(first + 1, "1")
        await asyncio.to_thread(runs.delete, change.settings, "night")


@pytest.mark.usefixtures("alone")
async def test_a_promotion_that_was_cut_off_can_be_taken_back_and_not_deleted(
    change: ChangeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tagged(change, 6)
    run = await change.run()
    await change.work(run)

    def cut_off(*_: object) -> None:
        raise DependencyDown("kafka", "cut off")

    with monkeypatch.context() as cut:
        cut.setattr(run_release.run_log, "save", cut_off)
        with pytest.raises(DependencyDown):
            await change.promote(run)
    await asyncio.to_thread(runs.move, change.settings, run.run_id, "cancel")
    with pytest.raises(Refused, match="in force as release 2"):
        await asyncio.to_thread(runs.delete, change.settings, run.run_id)
    assert (await change.rollback(run)).release == 3
    stored = await asyncio.to_thread(run_log.read, change.settings.kafka, run.run_id)
    assert (stored.state, stored.promoted, stored.rolled_back) == ("rolled back", 2, 3)
    change.check(3, "1")


async def test_without_any_release_a_run_is_told_so(change: ChangeBench) -> None:
    await tagged(change, 3)
    run = await change.run()
    await change.work(run)
    forget_records(change, change.settings.kafka.releases_topic, 0, -1)
    for what in (change.promote(run), change.rollback(run)):
        with pytest.raises(NotFound, match="no release is in force"):
            await what
    await asyncio.to_thread(runs.move, change.settings, run.run_id, "cancel")
    await asyncio.to_thread(runs.delete, change.settings, run.run_id)


@pytest.mark.usefixtures("alone")
async def test_a_run_for_thresholds_waits_and_goes_on_where_it_was(change: ChangeBench) -> None:
    await tagged(change, 20)
    run = await change.run(promotion.Wish(good_threshold=0.2), kind="retag")
    with pytest.raises(Refused, match="0 of 20 offsets are done"):
        await change.promote(run)
    await asyncio.to_thread(runs.move, change.settings, run.run_id, "pause")
    work = asyncio.create_task(change.work(run))
    # Its answers would be there within this time.
    done, _ = await asyncio.wait({work}, timeout=3)
    assert (done, change.answers(run)) == (set(), {})
    await asyncio.to_thread(runs.move, change.settings, run.run_id, "resume")
    worked = await work
    assert (worked.complete, worked.outcomes["tagged"]) == (True, 20)
    assert await asyncio.to_thread(run_log.done, change.settings.kafka, run) == 20
    again = await change.work(run)
    assert (again.complete, again.outcomes["tagged"]) == (True, 0)
    assert (await change.promote(run)).written == 20


async def test_a_run_whose_positions_kafka_forgot_stays_within_its_ranges(change: ChangeBench) -> None:
    await tagged(change, 40)
    run = await change.run(offsets={0: range(3, 5)})
    ask(change, "delete_consumer_groups", run.group(change.settings.kafka.group_id))
    assert (await change.work(run)).complete
    assert sorted(each.source.offset for each in change.answers(run).values()) == [3, 4]


@pytest.mark.parametrize("left", [1, 0])
async def test_a_run_ends_where_retention_has_removed_its_uploads(change: ChangeBench, left: int) -> None:
    await tagged(change, 40)
    run = await change.run(offsets={0: range(2, 5)})
    forget_records(change, run.topic, 0, 5 - left)
    worked = await asyncio.wait_for(change.work(run), 30)
    assert worked.complete
    assert len(change.answers(run)) == left


async def test_a_run_is_not_deleted_under_its_workers(change: ChangeBench) -> None:
    await tagged(change, 10)
    run = await change.run(rate=0.5)
    work = asyncio.create_task(change.work(run))
    await eventually(lambda: change.answers(run))
    await asyncio.to_thread(runs.move, change.settings, run.run_id, "cancel")
    with pytest.raises(DependencyDown, match="workers are still at it"):
        await asyncio.to_thread(runs.delete, change.settings, run.run_id)
    assert change.answers(run)
    await work
    await asyncio.to_thread(runs.delete, change.settings, run.run_id)


async def test_a_run_without_its_answers_is_told_so(change: ChangeBench) -> None:
    await tagged(change, 3)
    run = await change.run()
    await change.work(run)
    ask(change, "delete_topics", change.settings.kafka.topics.answers(run.run_id))
    for what in (run_diff.diff(change.settings, run.run_id), change.promote(run, forced=True), change.work(run)):
        with pytest.raises(NotFound, match="its answers are gone"):
            await what
    assert len(release_log.history(change.settings.kafka)) == 1


async def test_an_upload_that_cannot_be_read_belongs_to_the_photo_of_its_key(change: ChangeBench) -> None:
    await tagged(change, 4)
    change.world.send("odd", b"{}", "photo.uploaded")
    change.world.send("photo1", b"{}", "photo.uploaded")
    chosen = await change.run(selection=Selection(ids=("photo1",)))
    assert (await change.work(chosen)).complete
    assert {name: each.reason for name, each in change.answers(chosen).items()} == {"photo1": "invalid_event"}
    level = await change.run(selection=Selection(levels=(1, 2, 3, 4, 5)))
    assert (await change.work(level)).complete
    assert set(change.answers(level)) == {f"photo{number}" for number in range(4)}


@pytest.mark.parametrize("plan", [{"follow": True, "until": True}, {"follow": True, "offsets": {0: range(2)}}])
async def test_what_follows_has_no_end(change: ChangeBench, plan: dict[str, Any]) -> None:
    await tagged(change, 3)
    if "until" in plan:
        plan["until"] = (await runs.prepare(change.settings, SECOND, Plan(), "a test")).at
    with pytest.raises(SettingsError, match="--follow"):
        await runs.prepare(change.settings, SECOND, Plan(**plan), "a test")


async def test_a_run_over_nothing_is_refused(change: ChangeBench) -> None:
    await tagged(change, 3)
    late = (await runs.prepare(change.settings, SECOND, Plan(), "a test")).at.replace(year=2999)
    with pytest.raises(NotFound, match="no records"):
        await runs.prepare(change.settings, SECOND, Plan(since=late), "a test")
    assert (await runs.prepare(change.settings, FIRST, Plan("replay", since=late), "a test")).total == 0


async def test_a_dry_run_counts_the_photos_that_are_meant(change: ChangeBench) -> None:
    await tagged(change, 20)
    change.world.upload("photo3")  # again
    change.world.send("photo4", b"{}", "photo.uploaded")
    change.world.send("odd", b"{}", "photo.uploaded")

    async def counted(wish: promotion.Wish = SECOND, **plan: Any) -> int:
        run = await runs.prepare(change.settings, wish, Plan(**plan), "a test")
        return await run_count.photos(change.settings, run)

    async def judged(**plan: Any) -> int:
        run = await change.run(**plan)
        assert (await change.work(run)).complete
        return len(change.answers(run))

    assert await counted() == await judged() == 21
    chosen = Selection(ids=("photo3", "photo7", "nobody"))
    assert await counted(selection=chosen) == await judged(selection=chosen) == 2
    dim = Selection(levels=(2,))
    assert await counted(selection=dim) == await judged(selection=dim) == 20
    assert await counted(selection=Selection(levels=(5,))) == 0
    assert await counted(offsets={0: range(1, 3)}) == 2
    lower = promotion.Wish(good_threshold=0.2)
    assert await counted(lower, kind="retag") == 20
    assert await counted(lower, kind="retag", selection=chosen) == 2


async def test_what_came_since_a_run_for_thresholds_began_is_judged_again_by_any_clock(change: ChangeBench) -> None:
    async with change.world.service(change.settings) as service:
        change.upload(4)
        await change.tagged(service)
        await eventually(lambda: sum(span.start for span in runs._live(change.settings)) == 4)
        run = await change.run(promotion.Wish(good_threshold=0.2), kind="retag")
        change.world.photos.answers["late"] = change.photo(5)
        event = events.PhotoUploaded("late", f"{change.world.photos.url}/late", datetime.now(UTC))
        change.world.send("late", events.encode(event), events.UPLOADED, at_ms=1_000)
        change.sent += 1
        await change.tagged(service)
        assert (await change.work(run)).complete
        applied = await change.promote(run, forced=True)
        assert (applied.written, applied.closing.outcomes["tagged"]) == (4, 1)
    newest = {key: json.loads(record.value()) for key, record in by_key(change.world.tags()).items()}
    assert {tags["version"].split(".")[1] for tags in newest.values()} == {"000002"}
