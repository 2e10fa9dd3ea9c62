"""Scores are those of the contract in force, and a photo is blamed only for what is its own."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any

import numpy as np
import pytest

from consumer.contract import Geometry, Views
from consumer.errors import DependencyDown, PhotoRejected, Retryable, TaggerError
from consumer.events import Scores
from consumer.triton import batches, model
from consumer.triton.failures import Unanswered
from consumer.triton.inference import TritonClient
from consumer.triton.serving import Serving
from tests.fake_triton import FakeTriton, Row, contract_of, serving
from tests.harness import eventually

SWAPPED = ("azure", "crimson", "no_logo")


def photo(value: int = 7) -> Views:
    return {Geometry(8, 8): np.full((8, 8, 3), value, np.uint8)}


@asynccontextmanager
async def under_contract(fake: FakeTriton, deadline_s: float = 2.0, preparing: int = 0) -> AsyncIterator[Serving]:
    """The served models under the contract that the fake serves now."""
    async with TritonClient(fake.url, deadline_s=deadline_s) as client:
        yield Serving(client, await contract_of(client), lambda: preparing)


def answer(model: str) -> Row:
    return [0.9, 0.0, 0.1] if model == "brand_logo" else [0.75]


def failing(status: str, fails: Callable[[np.ndarray[Any, Any]], bool]) -> Callable[..., Awaitable[Row]]:
    """The brand model fails with this status on some pixels."""

    async def row(model: str, pixels: np.ndarray[Any, Any]) -> Row:
        if model == "brand_logo" and fails(pixels):
            raise ValueError(status, "as told")
        return answer(model)

    return row


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Asks again and again until it is true; fails the test at a deadline."""
    end = monotonic() + 5
    while not await check():
        assert monotonic() < end
        await asyncio.sleep(0.02)


async def failure_of(models: Serving, views: Views | None = None) -> TaggerError:
    with pytest.raises(TaggerError) as caught:
        await models.infer(photo() if views is None else views)
    return caught.value


async def test_the_scores_of_both_models_with_few_looks_for_many_photos() -> None:
    async with serving(FakeTriton()) as fake, under_contract(fake) as models:
        before = fake.looks
        scores = await asyncio.gather(*(models.infer(photo(number)) for number in range(40)))
        # One look asks for both models: before the first, after the first answer, and each 50 ms from then on.
        assert 4 <= fake.looks - before <= 12
    assert {score.quality_score for score in scores} == {0.75}
    assert scores[0].brand_probs.tolist() == pytest.approx([0.9, 0.0, 0.1])


async def test_answers_that_say_their_contract_need_no_looks() -> None:
    async with serving(FakeTriton(announces=True)) as fake, under_contract(fake, deadline_s=0.5) as models:
        await models.infer(photo())
        before, fake.hides = fake.looks, True
        scores = await asyncio.gather(*(models.infer(photo(number)) for number in range(40)))
        assert fake.looks == before
    assert {score.quality_score for score in scores} == {0.75}
    assert scores[0].brand_probs.tolist() == pytest.approx([0.9, 0.0, 0.1])


async def test_a_version_that_does_not_say_its_contract_is_looked_at_though_the_configuration_promises_it() -> None:
    async with serving(FakeTriton(announces=True, says=False)) as fake, under_contract(fake) as models:
        await models.infer(photo())
        before = fake.looks
        await models.infer(photo(8))
        assert fake.looks > before
        fake.labels = SWAPPED
        assert isinstance(await failure_of(models, photo(9)), DependencyDown)


@pytest.mark.parametrize(
    "other",
    [
        {"labels": SWAPPED},
        {"labels": ("crimson", "azure", "more", "no_logo")},
        {"versions": ("2", "3")},
        {"versions": ("10", "9")},
        {"size": 16},
    ],
    ids=str,
)
@pytest.mark.parametrize("noticed_by", ["photo", "photo at once", "look"])
@pytest.mark.parametrize("announces", [False, True], ids=["looks", "says"])
async def test_another_server_behind_the_next_connection_is_not_believed(
    other: dict[str, Any], noticed_by: str, announces: bool
) -> None:
    async with serving(FakeTriton(announces=announces)) as first, under_contract(first) as models:
        await models.infer(photo())
        known = models._client.losses
        # Nothing is asked meanwhile: no request fails when the connection is lost.
        await first.stop()
        async with serving(FakeTriton(**other, announces=announces), int(first.url.rpartition(":")[2])) as second:
            # At once, the photo may meet the end of the connection, or be judged before its loss is noticed.
            if noticed_by == "photo at once":
                assert isinstance(await failure_of(models), DependencyDown)
            await eventually(lambda: models._client.losses > known)
            if noticed_by == "photo":
                failure = await failure_of(models)
                assert isinstance(failure, DependencyDown)
                assert "is now" in failure.detail or "is not loaded" in failure.detail
            with pytest.raises(DependencyDown, match=r"is now|is not loaded"):
                await models.check()
            # An answer that says its contract is refused by itself, whoever gave it.
            assert noticed_by == "photo at once" or announces or second.begun == []


@pytest.mark.parametrize("announces", [False, True], ids=["looks", "says"])
async def test_models_that_changed_in_place_while_a_photo_was_judged_are_not_believed(announces: bool) -> None:
    async with serving(FakeTriton(announces=announces)) as fake, under_contract(fake) as models:
        await models.infer(photo())
        asked, go = asyncio.Event(), asyncio.Event()

        async def row(model: str, _: object) -> Row:
            asked.set()
            await go.wait()
            return answer(model)

        fake.row = row
        judged = asyncio.create_task(failure_of(models))
        await asked.wait()
        fake.labels = SWAPPED
        with pytest.raises(DependencyDown, match="label_checksum"):
            await models.check()
        go.set()
        assert isinstance(await judged, DependencyDown)


@pytest.mark.parametrize("other", [{"labels": SWAPPED}, {"versions": ("2",)}, {"labels": ("crimson", "no_logo", "x")}])
@pytest.mark.parametrize("announces", [False, True], ids=["looks", "says"])
async def test_models_that_were_changed_in_place_before_a_photo_was_sent_are_not_believed(
    other: dict[str, Any], announces: bool
) -> None:
    """The connection lasts, and no request fails: only the answer tells, or a look after it."""
    async with serving(FakeTriton(announces=announces)) as fake, under_contract(fake) as models:
        await models.infer(photo())
        for name, value in other.items():
            setattr(fake, name, value)
        assert isinstance(await failure_of(models), DependencyDown)


async def test_an_answer_is_not_thrown_away_while_the_look_behind_it_gets_none() -> None:
    async with serving(FakeTriton()) as fake, under_contract(fake, deadline_s=0.2) as models:
        await models.infer(photo())
        fake.hides = True
        judged = asyncio.create_task(models.infer(photo(8)))
        await until(partial(_looked_in_vain, models))
        assert not judged.done()
        fake.hides = False
        assert (await judged).quality_score == 0.75
        assert fake.begun.count("brand_logo") == 2


async def _looked_in_vain(models: Serving) -> bool:
    try:
        await models.check()
    except DependencyDown:
        return True
    return False


async def test_a_version_in_force_that_is_loaded_beside_a_newer_one_stays() -> None:
    async with serving(FakeTriton()) as fake, under_contract(fake) as models:
        fake.versions = ("2", "1")
        await models.check()
        assert dict((await models.infer(photo())).models) == {"photo_quality": "1", "brand_logo": "1"}


@pytest.mark.parametrize(
    "broken", [{"size": 0}, {"input_type": 11}, {"input_type": 999}, {"labels": ("a", "a")}, {"versions": ("x",)}]
)
async def test_what_is_no_contract_is_waited_for_in_words(broken: dict[str, Any]) -> None:
    async with serving(FakeTriton()) as fake, under_contract(fake) as models:
        await models.infer(photo())
        for name, value in broken.items():
            setattr(fake, name, value)
        with pytest.raises(DependencyDown) as caught:
            await models.check()
        assert "photo_quality" in caught.value.detail or "brand_logo" in caught.value.detail
        assert isinstance(await failure_of(models), DependencyDown)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("INTERNAL", "inference_failed"),
        ("UNKNOWN", "inference_failed"),
        ("ABORTED", "inference_failed"),
        ("INVALID_ARGUMENT", "inference_rejected"),
    ],
)
@pytest.mark.parametrize("known", [True, False], ids=["known good", "drawn"])
async def test_a_photo_is_blamed_where_the_model_works_on_another(status: str, reason: str, known: bool) -> None:
    row = failing(status, lambda pixels: bool(pixels[0] == 66))
    async with serving(FakeTriton(row=row)) as fake, under_contract(fake) as models:
        if known:
            await models.infer(photo(7))
        failure = await failure_of(models, photo(66))
        assert isinstance(failure, PhotoRejected | Retryable)
        assert failure.reason == reason
        await models.infer(photo(8))


async def test_a_photo_that_was_refused_is_asked_for_again_before_it_is_blamed() -> None:
    """The model refused everything, and works when it is asked for something good."""
    refusals = 1

    def fails(_: np.ndarray[Any, Any]) -> bool:
        nonlocal refusals
        refusals -= 1
        return refusals >= 0

    async with serving(FakeTriton(row=failing("INVALID_ARGUMENT", fails))) as fake, under_contract(fake) as models:
        assert (await models.infer(photo(66))).brand_probs.argmax() == 0
        assert refusals == -4, "three proofs, and the photo again"


@pytest.mark.parametrize("status", ["INTERNAL", "UNKNOWN", "ABORTED", "DATA_LOSS", "INVALID_ARGUMENT"])
@pytest.mark.parametrize("known", [True, False], ids=["known good", "drawn"])
async def test_a_model_that_fails_on_what_is_good_is_down_until_it_works(status: str, known: bool) -> None:
    broken = not known
    row = failing(status, lambda _: broken)
    async with serving(FakeTriton(row=row)) as fake, under_contract(fake) as models:
        if known:
            await models.infer(photo(7))
        broken = True
        failures = await asyncio.gather(*(failure_of(models, photo(number)) for number in range(20)))
        assert {type(failure) for failure in failures} == {DependencyDown}
        with pytest.raises(DependencyDown, match="fails on"):
            await models.check()
        broken = False
        await until(partial(_works, models))


async def _works(models: Serving) -> bool:
    try:
        await models.infer(photo(9))
    except DependencyDown:
        return False
    await models.check()
    return True


@pytest.mark.parametrize("status", ["INTERNAL", "INVALID_ARGUMENT"])
async def test_a_bad_photo_is_blamed_also_by_a_model_that_takes_longer_than_the_deadline(status: str) -> None:
    async def row(model: str, pixels: np.ndarray[Any, Any]) -> Row:
        await asyncio.sleep(0.25)
        if model == "brand_logo" and pixels[0] == 66:
            raise ValueError(status, "as told")
        return answer(model)

    async with serving(FakeTriton(row=row)) as fake, under_contract(fake, deadline_s=0.1) as models:
        await models.infer(photo(7))
        assert isinstance(await failure_of(models, photo(66)), PhotoRejected | Retryable)
        await models.infer(photo(8))


@pytest.mark.parametrize("company", [True, False], ids=["among others", "alone"])
async def test_a_photo_that_is_never_answered_is_blamed_where_the_model_answers_others(company: bool) -> None:
    async def row(model: str, pixels: np.ndarray[Any, Any]) -> Row:
        if model == "brand_logo" and pixels[0] == 66:
            await asyncio.sleep(5)
        return answer(model)

    async with serving(FakeTriton(row=row)) as fake, under_contract(fake, deadline_s=0.2) as models:
        bad = asyncio.create_task(failure_of(models, photo(66)))
        while not bad.done():
            if company:
                await models.infer(photo(7))
            else:
                with suppress(DependencyDown):  # at this deadline, a busy machine may look down
                    await models.check()
            await asyncio.sleep(0.01)
        assert isinstance(await bad, Retryable)
        assert "not this photo" in str(await bad)


async def test_a_model_that_answers_nobody_for_a_while_blames_no_photo() -> None:
    stopped = False

    async def row(model: str, pixels: np.ndarray[Any, Any]) -> Row:
        if stopped or pixels[0] != 7:
            await asyncio.sleep(5)
        return answer(model)

    async with serving(FakeTriton(row=row)) as fake, under_contract(fake, deadline_s=0.1) as models:
        await models.infer(photo(7))
        waiting = [asyncio.create_task(failure_of(models, photo(number))) for number in (66, 67, 68)]
        # Answered, but sent at the beginning of their wait only.
        await models.infer(photo(7))
        stopped = True
        assert {type(failure) for failure in await asyncio.gather(*waiting)} == {Unanswered}


async def test_a_model_that_fails_by_chance_blames_hardly_a_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests of three fail: a photo that fails is often followed by good pixels that do not."""
    monkeypatch.setattr(model, "_PROBE_S", 0.02)
    chance, fails = random.Random(1), dict[int, bool]()

    async def row(name: str, _: object) -> Row:
        if name == "brand_logo" and fails.setdefault(len(fake.requests), chance.random() < 2 / 3):
            raise ValueError("INTERNAL", "as told")
        return answer(name)

    blames = []

    few = asyncio.Semaphore(4)  # those that fail at the same time share the proof

    async def judge(models: Serving, number: int) -> None:
        count = 0
        async with few:
            while True:
                try:
                    await models.infer(photo(number))
                except Retryable:
                    count += 1
                except DependencyDown:
                    await asyncio.sleep(0.05)
                else:
                    return blames.append(count)

    async with serving(FakeTriton(row=row)) as fake, under_contract(fake) as models:
        await asyncio.gather(*(judge(models, number) for number in range(40)))
    assert sum(blames) <= 8


async def test_while_a_model_fails_it_is_asked_by_one_probe_and_no_photo() -> None:
    broken = False
    async with serving(FakeTriton(row=failing("INTERNAL", lambda _: broken))) as fake, under_contract(fake) as models:
        await models.infer(photo(7))
        broken = True
        await failure_of(models)
        before = fake.begun.count("brand_logo")
        await asyncio.gather(*(failure_of(models, photo(number)) for number in range(100)))
        assert fake.begun.count("brand_logo") - before <= 1


@pytest.mark.parametrize(
    "wrong",
    [{"answers_as": "2"}, {"labels": ("a", "no_logo")}, {"labels": ("a", "b", "c", "no_logo")}, {"datatype": "FP64"}],
    ids=str,
)
async def test_an_answer_to_another_question_is_no_photos_fault(wrong: dict[str, Any]) -> None:
    async with serving(FakeTriton()) as fake, under_contract(fake) as models:
        await models.infer(photo())
        for name, value in wrong.items():
            setattr(fake, name, value)
        assert isinstance(await failure_of(models), DependencyDown)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
async def test_numbers_that_are_no_scores_are_the_models_fault_where_all_are(value: float) -> None:
    async def row(model: str, _: object) -> Row:
        return [value] * len(answer(model))

    async with serving(FakeTriton()) as fake, under_contract(fake) as models:
        await models.infer(photo())
        fake.row = row
        assert isinstance(await failure_of(models), DependencyDown)


@pytest.mark.parametrize("most", [0, 1, 3, 8, 64])
async def test_requests_are_as_large_as_the_models_take(most: int) -> None:
    """0 is a model without batches: its tensors have one dimension less."""
    async with serving(FakeTriton(max_batch_size=most)) as fake, under_contract(fake) as models:
        scores = await asyncio.gather(*(models.infer(photo(number)) for number in range(16)))
        assert [score.brand_probs.tolist() for score in scores] == [pytest.approx([0.9, 0.0, 0.1])] * 16
        assert max(photos for _, photos in fake.requests) == min(max(most, 1), 8)


async def test_a_model_that_takes_fewer_photos_from_now_on_gets_fewer() -> None:
    async with serving(FakeTriton()) as fake, under_contract(fake) as models:
        await models.infer(photo())
        fake.max_batch_size = 2
        await asyncio.gather(*(models.infer(photo(number)) for number in range(8)))
        await models.check()
        del fake.requests[:]
        await asyncio.gather(*(models.infer(photo(number)) for number in range(8)))
    assert sorted(fake.requests) == [("brand_logo", 2)] * 4 + [("photo_quality", 2)] * 4


async def test_a_photo_that_is_given_up_is_with_neither_model_any_more() -> None:
    async def row(_: str, __: object) -> Row:
        await asyncio.Event().wait()
        return []

    async with serving(FakeTriton(row=row)) as fake, under_contract(fake) as models:
        judged = asyncio.create_task(models.infer(photo()))
        await eventually(lambda: len(fake.begun) == 2)
        judged.cancel()
        await asyncio.gather(judged, return_exceptions=True)
        await eventually(lambda: models._quality.concurrency.sent == models._brand.concurrency.sent == 0)


async def test_photos_do_not_wait_for_those_that_get_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_LONGEST_S", 1000.0)
    monkeypatch.setattr(batches, "_FOR_EACH_S", 1000.0)
    async with serving(FakeTriton()) as fake, under_contract(fake, preparing=1000) as models, asyncio.timeout(30):
        for each in (models._quality, models._brand):
            each.concurrency._places.total = 3
        await asyncio.gather(*(models.infer(photo(number)) for number in range(3)))
    assert sorted(fake.requests) == [("brand_logo", 3), ("photo_quality", 3)]


@pytest.mark.parametrize(("preparing", "size"), [(0, 1), (3, 1), (4, 2), (20, 6)])
async def test_photos_wait_for_one_more_for_each_four_that_are_being_prepared(
    preparing: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_LONGEST_S", 1000.0)
    monkeypatch.setattr(batches, "_FOR_EACH_S", 1000.0)
    async with serving(FakeTriton()) as fake, under_contract(fake, preparing=preparing) as models:
        async with asyncio.timeout(30):
            await asyncio.gather(*(models.infer(photo(number)) for number in range(size)))
    assert sorted(fake.requests) == [("brand_logo", size), ("photo_quality", size)]


async def test_small_requests_are_not_followed_by_small_ones_where_photos_wait_for_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "_LONGEST_S", 1000.0)
    monkeypatch.setattr(batches, "_FOR_EACH_S", 1000.0)
    monkeypatch.setattr(batches, "_ENOUGH", 1000)
    go = {number: asyncio.Event() for number in range(16)}

    async def row(model: str, pixels: np.ndarray[Any, Any]) -> Row:
        if int(pixels[0]) in go:
            await go[int(pixels[0])].wait()
        return answer(model)

    async with serving(FakeTriton(row=row)) as fake, under_contract(fake) as models, asyncio.timeout(30):
        for each in (models._quality, models._brand):
            each.concurrency._limit._doubles = False  # as after the first slow answer
        judged = list[asyncio.Task[Scores]]()
        for number in range(16):  # all that are allowed at first, each alone
            judged.append(asyncio.create_task(models.infer(photo(number))))
            await eventually(lambda number=number: len(fake.begun) == 2 * (number + 1))
        judged += [asyncio.create_task(models.infer(photo(number))) for number in range(16, 32)]
        await eventually(lambda: models._quality.concurrency.waiting == models._brand.concurrency.waiting == 16)
        for number, one in go.items():
            one.set()
            await eventually(lambda number=number: judged[number].done())
        await asyncio.gather(*judged)
    later = fake.requests[32:]
    assert sum(size for _, size in later) == 32
    assert len(later) <= 8, "of two models: each answer lets one photo in"


async def test_a_server_that_takes_no_request_of_several_photos_gets_its_work_done() -> None:
    """As behind a proxy that bounds the size of a message."""

    async def row(model: str, _: object) -> Row:
        if fake.requests[-1][1] > 1:
            raise ValueError("RESOURCE_EXHAUSTED", "message larger than max")
        return answer(model)

    async def judge(models: Serving, number: int) -> None:
        while True:
            with suppress(DependencyDown):
                await models.infer(photo(number))
                return

    async with serving(FakeTriton(row=row)) as fake, under_contract(fake) as models, asyncio.timeout(30):
        await asyncio.gather(*(judge(models, number) for number in range(16)))


async def test_a_photo_that_is_never_answered_holds_its_neighbours_up_for_a_few_deadlines_only() -> None:
    """They are asked for again once something sent later was answered, be it what the watch asks for."""

    async def row(model: str, pixels: np.ndarray[Any, Any]) -> Row:
        if model == "brand_logo" and pixels[0] == 66:
            await asyncio.Event().wait()
        return answer(model)

    async with serving(FakeTriton(row=row)) as fake, under_contract(fake, deadline_s=0.3) as models:
        models._client.patience_s = 1000.0
        judged = [asyncio.create_task(models.infer(photo(number))) for number in (1, 66, 2)]
        async with asyncio.timeout(30):
            while not (judged[0].done() and judged[2].done()):
                with suppress(DependencyDown):  # at this deadline, a busy machine may look down
                    await models.check()
                await asyncio.sleep(0.01)
        assert not judged[1].done()
        judged[1].cancel()
        await asyncio.gather(*judged, return_exceptions=True)
        assert fake.requests.count(("brand_logo", 3)) == 1


async def test_a_slow_model_is_not_asked_again_while_it_answers_in_turn() -> None:
    turn = {"brand_logo": asyncio.Lock(), "photo_quality": asyncio.Lock()}

    async def row(model: str, _: object) -> Row:
        async with turn[model]:
            await asyncio.sleep(0.1)
        return answer(model)

    async with serving(FakeTriton(row=row)) as fake, under_contract(fake, deadline_s=0.1) as models:
        scores = await asyncio.gather(*(models.infer(photo(number)) for number in range(10)), return_exceptions=True)
        assert not [score for score in scores if isinstance(score, Retryable)]
        assert sum(photos for model, photos in fake.requests if model == "photo_quality") <= 10 + 3  # probes


@pytest.mark.parametrize("row", [[], [0.5], [0.5] * 4, [float("nan")] * 3, [-1.0, 1.0, 1.0]], ids=str)
async def test_what_is_no_row_of_scores_is_the_photos_where_others_get_one(row: Row) -> None:
    async def of(model: str, pixels: np.ndarray[Any, Any]) -> Row:
        return row if model == "brand_logo" and pixels[0] == 66 else answer(model)

    async with serving(FakeTriton(row=of)) as fake, under_contract(fake) as models:
        await models.infer(photo())
        failure = await failure_of(models, photo(66))
        assert isinstance(failure, Retryable)
        assert failure.reason == "inference_failed"
        await models.infer(photo(8))


async def test_it_waits_for_both_models_also_where_one_fails() -> None:
    async def row(model: str, pixels: np.ndarray[Any, Any]) -> Row:
        if model == "photo_quality" and pixels[0] == 66:
            raise ValueError("INTERNAL", "as told")
        if model == "brand_logo":
            await asyncio.sleep(0.2)
        return answer(model)

    async with serving(FakeTriton(row=row)) as fake, under_contract(fake) as models:
        await failure_of(models, photo(66))
        assert fake.begun.count("brand_logo") == fake.ended.count("brand_logo") == 1


async def test_each_model_is_asked_with_the_pixels_of_its_geometry() -> None:
    asked: dict[str, np.ndarray[Any, Any]] = {}

    async def row(model: str, pixels: np.ndarray[Any, Any]) -> Row:
        asked[model] = pixels
        return answer(model)

    views = {Geometry(8, 8): np.full((8, 8, 3), 7, np.uint8), Geometry(12, 12): np.full((12, 12, 3), 9, np.uint8)}
    async with serving(FakeTriton(brand_size=12, row=row)) as fake, under_contract(fake) as models:
        assert (await models.infer(views)).quality_score == 0.75
        assert {model: (pixels.size, pixels[0]) for model, pixels in asked.items()} == {
            "photo_quality": (8 * 8 * 3, 7),
            "brand_logo": (12 * 12 * 3, 9),
        }


@pytest.mark.parametrize("failing", ["photo_quality", "brand_logo"])
async def test_with_two_geometries_a_kept_answer_lives_as_long_as_its_photo(failing: str) -> None:
    async def row(model: str, _: object) -> Row:
        if model == failing:
            raise ValueError("UNAVAILABLE", "as told")
        return answer(model)

    async with serving(FakeTriton(brand_size=12, row=row)) as fake, under_contract(fake) as models:
        views = {**photo(), Geometry(12, 12): np.zeros((12, 12, 3), np.uint8)}
        for _ in range(3):
            await failure_of(models, views)
        (other,) = {"photo_quality", "brand_logo"} - {failing}
        assert (fake.begun.count(other), len(models._kept)) == (1, 1)
        del views
        await asyncio.sleep(0)  # for the callbacks that refer to the last failure
        gc.collect()
        assert not models._kept


async def test_another_input_size_of_one_model_is_told_by_its_name() -> None:
    async with serving(FakeTriton()) as fake, under_contract(fake) as models:
        await models.infer(photo())
        fake.brand_size = 12
        assert "brand_logo: input 8² from a short side of 8 is now 12²" in (await failure_of(models)).args[0]


async def test_what_one_model_answered_is_not_asked_again_while_the_other_fails() -> None:
    away = True

    async def row(model: str, _: object) -> Row:
        if model == "brand_logo" and away:
            raise ValueError("UNAVAILABLE", "as told")
        return answer(model)

    async with serving(FakeTriton(row=row)) as fake, under_contract(fake) as models:
        views = photo()
        for _ in range(5):
            await failure_of(models, views)
        assert fake.begun.count("photo_quality") == 1
        away = False
        assert (await models.infer(views)).quality_score == 0.75
        assert fake.begun.count("photo_quality") == 1
        fake.labels = SWAPPED
        await failure_of(models, views)
        assert models._kept
        del views
        gc.collect()
        assert not models._kept


async def test_the_time_of_an_answer_runs_from_its_sending_and_nothing_is_asked_twice() -> None:
    """64 photos at 40 a second need 1.6 s, four times the time in which a healthy Triton answers."""
    turns = {"brand_logo": asyncio.Lock(), "photo_quality": asyncio.Lock()}

    async def row(model: str, _: object) -> Row:
        async with turns[model]:
            await asyncio.sleep(0.025)
        return answer(model)

    async with serving(FakeTriton(row=row)) as fake, under_contract(fake, deadline_s=0.4) as models:
        scores = await asyncio.gather(*(models.infer(photo(number)) for number in range(64)))
        assert len(scores) == 64
        assert fake.begun.count("brand_logo") == 64


async def test_a_model_that_answers_nothing_is_seen() -> None:
    async def row(_: str, __: object) -> Row:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(FakeTriton(row=row)) as fake, under_contract(fake, deadline_s=0.3) as models:
        waiting = asyncio.create_task(models.infer(photo()))
        await until(partial(_is_silent, models))
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def _is_silent(models: Serving) -> bool:
    try:
        await models.check()
    except DependencyDown as down:
        return "answered none for" in down.detail
    return False


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 64, b"", b"SSH-2.0-x\r\n"])
async def test_another_program_on_the_port_is_an_outage_in_words(reply: bytes) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, TritonClient(f"127.0.0.1:{port}", deadline_s=1.0) as client:
        with pytest.raises(DependencyDown) as caught:
            await client.read_contract("photo_quality", "brand_logo")
    assert f"127.0.0.1:{port}" in caught.value.detail
