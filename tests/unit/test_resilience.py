import asyncio
from collections.abc import Iterator

import pytest
import stamina

from consumer.errors import DependencyDown, PhotoRejected, Retryable
from consumer.resilience import Dependencies, retry_within_budget
from consumer.telemetry import Metrics
from tests.fakes import RecordingLog

ATTEMPTS = 4


@pytest.fixture
def log() -> RecordingLog:
    return RecordingLog()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def at_once() -> Iterator[None]:
    """No waiting between attempts."""
    with stamina.set_testing(True, attempts=ATTEMPTS, cap=True):
        yield


class Dependency:
    """Is down until all `waiters` have knocked, then answers each with its number."""

    def __init__(self, waiters: int) -> None:
        self.knocked: set[int] = set()
        self.waiters = waiters

    async def call(self, number: int) -> int:
        self.knocked.add(number)
        if len(self.knocked) < self.waiters:
            raise DependencyDown("redis", "refused")
        return number


async def test_an_answer_comes_through_at_once_and_is_not_worth_a_line(log: RecordingLog, metrics: Metrics) -> None:
    assert (
        await Dependencies(log, metrics).retry_until_available("redis", lambda: asyncio.sleep(0, "answer")) == "answer"
    )
    assert log.lines == []


async def test_a_loss_and_a_recovery_are_logged_once_for_any_number_of_waiters(
    log: RecordingLog, metrics: Metrics
) -> None:
    dependencies, dependency = Dependencies(log, metrics), Dependency(100)
    calls = [
        dependencies.retry_until_available("redis", lambda number=number: dependency.call(number))
        for number in range(100)
    ]
    assert await asyncio.gather(*calls) == list(range(100))
    assert [event for _, event, _ in log.lines] == ["dependency.lost", "dependency.recovered"]
    assert log.lines[0][2]["detail"] == "refused"
    assert dependencies.lost == ()


async def test_what_is_waited_for_is_known_while_it_is_down(log: RecordingLog, metrics: Metrics) -> None:
    dependencies, seen = Dependencies(log, metrics), []
    failures = [DependencyDown("triton", "starting")]

    async def call() -> None:
        up = metrics.registry.get_sample_value("tagger_dependency_up", {"dependency": "triton"})
        seen.append((dependencies.lost, up))
        if failures:
            raise failures.pop()

    await dependencies.retry_until_available("triton", call)
    assert seen == [((), 1), (("triton",), 0)]
    assert metrics.registry.get_sample_value("tagger_dependency_up", {"dependency": "triton"}) == 1


async def test_a_probe_names_what_no_call_asks_and_ends_no_loss_that_a_call_waits_for(
    log: RecordingLog, metrics: Metrics
) -> None:
    dependencies, full = Dependencies(log, metrics), [True]

    async def answers() -> None:
        pass

    async def silent() -> None:
        raise DependencyDown("redis", "no answer")

    async def write() -> None:
        if full[0]:
            raise DependencyDown("redis", "out of memory")

    await dependencies.probe("redis", silent)
    assert dependencies.losses == ("redis: no answer",)
    await dependencies.probe("redis", answers)
    assert dependencies.lost == ()

    writing = asyncio.create_task(dependencies.retry_until_available("redis", write))
    await asyncio.sleep(0)
    await dependencies.probe("redis", answers)
    assert dependencies.losses == ("redis: out of memory",)
    full[0] = False
    await writing
    assert dependencies.lost == ()

    full[0] = True
    writing = asyncio.create_task(dependencies.retry_until_available("redis", write))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await dependencies.probe("redis", answers)
    assert dependencies.lost == (), "nobody waits any more"


async def test_dependencies_are_lost_and_found_apart(log: RecordingLog, metrics: Metrics) -> None:
    dependencies, release = Dependencies(log, metrics), asyncio.Event()

    async def down() -> None:
        raise DependencyDown("kafka", "no answer")

    waiter = asyncio.create_task(dependencies.retry_until_available("kafka", down))
    await asyncio.sleep(0)
    release.set()
    await dependencies.retry_until_available("redis", release.wait)
    assert dependencies.lost == ("kafka",)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter


async def test_a_topic_that_is_missing_stays_lost_while_a_call_waits_for_it_though_others_succeed(
    log: RecordingLog, metrics: Metrics
) -> None:
    dependencies, gone = Dependencies(log, metrics), [True]

    async def letter() -> str:
        if gone[0]:
            raise DependencyDown("kafka", "no such topic", part="topic dead")
        return "sent"

    def up() -> float | None:
        return metrics.registry.get_sample_value("tagger_dependency_up", {"dependency": "kafka"})

    waiters = [asyncio.create_task(dependencies.retry_until_available("kafka", letter)) for _ in range(2)]
    for _ in range(20):
        await dependencies.retry_until_available("kafka", lambda: asyncio.sleep(0.01, "result"))
        assert dependencies.lost == ("kafka (topic dead)",)
        assert up() == 0
    gone[0] = False
    assert await asyncio.gather(*waiters) == ["sent", "sent"]
    assert (dependencies.lost, up()) == ((), 1)
    assert [event for _, event, _ in log.lines] == ["dependency.lost", "dependency.recovered"]


async def test_a_missing_topic_that_nobody_waits_for_any_more_is_not_lost(log: RecordingLog, metrics: Metrics) -> None:
    dependencies = Dependencies(log, metrics)

    async def letter() -> None:
        raise DependencyDown("kafka", "no such topic", part="topic dead")

    waiter = asyncio.create_task(dependencies.retry_until_available("kafka", letter))
    await asyncio.sleep(0.01)
    assert dependencies.lost == ("kafka (topic dead)",)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert dependencies.lost == ()


@pytest.mark.parametrize("failure", [PhotoRejected("internal", "x"), Retryable("http_5xx", "x"), ZeroDivisionError()])
async def test_other_failures_are_not_waited_for(failure: Exception, log: RecordingLog, metrics: Metrics) -> None:
    async def call() -> None:
        raise failure

    with pytest.raises(type(failure)) as caught:
        await Dependencies(log, metrics).retry_until_available("redis", call)
    assert caught.value is failure
    assert log.lines == []


async def test_a_dependency_that_is_lost_again_is_logged_again(log: RecordingLog, metrics: Metrics) -> None:
    dependencies = Dependencies(log, metrics)
    for _ in range(2):
        failures = [DependencyDown("redis", "refused")]

        async def call(failures: list[DependencyDown] = failures) -> None:
            if failures:
                raise failures.pop()

        await dependencies.retry_until_available("redis", call)
    assert [event for _, event, _ in log.lines] == ["dependency.lost", "dependency.recovered"] * 2


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("failures", range(ATTEMPTS + 2))
async def test_a_photo_gets_its_budget_of_attempts_and_no_more(
    failures: int, log: RecordingLog, metrics: Metrics
) -> None:
    calls = 0

    async def step(photo: str) -> str:
        nonlocal calls
        calls += 1
        if calls <= failures:
            raise Retryable("http_5xx", f"attempt {calls}")
        return photo

    retry = retry_within_budget(ATTEMPTS, log, metrics)
    if failures < ATTEMPTS:
        assert await retry(step, "photo") == "photo"
    else:
        with pytest.raises(Retryable, match=f"attempt {ATTEMPTS}"):
            await retry(step, "photo")
    repeated = min(failures, ATTEMPTS - 1)
    assert calls == min(failures + 1, ATTEMPTS)
    counted = metrics.registry.get_sample_value("tagger_retries_total", {"reason": "http_5xx"})
    assert (counted or 0) == repeated
    assert [line["attempt"] for line in log.named("photo.retried")] == list(range(1, repeated + 1))


@pytest.mark.usefixtures("at_once")
async def test_retries_are_counted_by_their_reason(log: RecordingLog, metrics: Metrics) -> None:
    failures = [Retryable("dns_failed", "a"), Retryable("short_body", "b"), Retryable("dns_failed", "c")]

    async def step(_: str) -> None:
        if failures:
            raise failures.pop()

    await retry_within_budget(ATTEMPTS, log, metrics)(step, "photo")
    for reason, count in {"dns_failed": 2, "short_body": 1}.items():
        assert metrics.registry.get_sample_value("tagger_retries_total", {"reason": reason}) == count


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("failure", [PhotoRejected("http_4xx", "x"), DependencyDown("triton", "x"), ValueError()])
async def test_only_transient_failures_are_repeated(failure: Exception, log: RecordingLog, metrics: Metrics) -> None:
    calls = []

    async def step(_: str) -> None:
        calls.append(1)
        raise failure

    with pytest.raises(type(failure)):
        await retry_within_budget(ATTEMPTS, log, metrics)(step, "photo")
    assert len(calls) == 1
    assert log.lines == []


@pytest.mark.usefixtures("at_once")
async def test_a_retry_does_not_log_the_arguments(log: RecordingLog, metrics: Metrics) -> None:
    failures = [Retryable("http_5xx", "busy")]

    async def step(uri: str) -> str:
        if failures:
            raise failures.pop()
        return uri

    await retry_within_budget(ATTEMPTS, log, metrics)(step, "https://h/p?signature=hunter2")
    assert len(log.lines) == 1
    assert "hunter2" not in repr(log.lines)


async def test_answers_and_failures_from_before_the_edge_of_an_outage_do_not_make_it_several(
    log: RecordingLog, metrics: Metrics
) -> None:
    dependencies = Dependencies(log, metrics)
    on_the_way, refused, late = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def answered_before_it_died() -> None:
        await on_the_way.wait()

    async def refused_before_it_was_back() -> None:
        if not late.is_set():
            await late.wait()
            raise DependencyDown("redis", "refused")

    async def waits() -> None:
        if not refused.is_set():
            raise DependencyDown("redis", "refused")

    early = asyncio.create_task(dependencies.retry_until_available("redis", answered_before_it_died))
    slow = asyncio.create_task(dependencies.retry_until_available("redis", refused_before_it_was_back))
    await asyncio.sleep(0)
    waiter = asyncio.create_task(dependencies.retry_until_available("redis", waits))
    await asyncio.sleep(0)
    assert dependencies.lost == ("redis",)
    on_the_way.set()
    await early
    assert dependencies.lost == ("redis",), "the answer is older than the loss"
    refused.set()
    await waiter
    assert dependencies.lost == ()
    late.set()
    await slow
    assert [event for _, event, _ in log.lines] == ["dependency.lost", "dependency.recovered"]


@pytest.mark.parametrize(
    ("down", "stops"),
    [
        (DependencyDown("kafka", "refused"), True),
        (DependencyDown("kafka", "refused", part="topic photo-tags"), True),
        (DependencyDown("redis", "refused"), True),
        (DependencyDown("triton", "refused"), True),
        (DependencyDown("photos", "refused"), False),
        (DependencyDown("photos", "refused", part="https://photos.example:443"), False),
    ],
)
async def test_a_photo_host_that_is_down_does_not_stop_every_photo(
    log: RecordingLog, metrics: Metrics, down: DependencyDown, stops: bool
) -> None:
    dependencies, told, failures = Dependencies(log, metrics), [], [down]

    async def call() -> None:
        told.append(dependencies.stop_every_photo)
        if failures:
            raise failures.pop()

    await dependencies.retry_until_available(down.dependency, call)
    assert (*told, dependencies.stop_every_photo) == (False, stops, False)


async def test_what_is_lost_is_told_with_its_last_failure_until_it_is_back(log: RecordingLog, metrics: Metrics) -> None:
    dependencies, failures = Dependencies(log, metrics), ["refused", "a contract of other labels " + "x" * 10_000]
    told = []

    async def call() -> None:
        told.append(dependencies.losses)
        if failures:
            raise DependencyDown("triton", failures.pop(0))

    await dependencies.retry_until_available("triton", call)
    assert told[:2] == [(), ("triton: refused",)]
    ((words,),) = told[2:]
    assert words.startswith("triton: a contract of other labels xxx")
    assert len(words) < 400
    assert dependencies.losses == dependencies.lost == ()
