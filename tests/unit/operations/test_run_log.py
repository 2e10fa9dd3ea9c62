import random
from array import array
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import Refused
from consumer.operations import run_log
from consumer.operations.live_traffic import LiveTraffic
from consumer.operations.run_progress import Progress
from consumer.operations.run_work import Pace
from consumer.settings import Settings
from tests.unit.runs.test_definition import RUN


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40))
def test_the_last_record_of_each_key_counts(keys: list[int]) -> None:
    offsets = [2 * place + 5 for place in range(len(keys))]  # compaction leaves gaps
    found = run_log._last_of(array("q", keys), array("q", offsets))
    assert list(found) == sorted(dict(zip(keys, offsets, strict=True)).values())
    assert [run_log._is_in(found, offset) for offset in offsets] == [
        offset in set(found.tolist()) for offset in offsets
    ]


def test_a_run_that_moves_says_so_in_its_history() -> None:
    moved = run_log.moved_to(RUN, "promoted", "promoted as release 4", promoted=4)
    assert (moved.state, moved.promoted, len(moved.history)) == ("promoted", 4, 1)
    assert moved.history[0].endswith(": promoted as release 4")


@pytest.mark.parametrize("state", ["cancelled", "promoted", "rolled back"])
def test_a_run_that_has_ended_is_not_worked_on(state: Any) -> None:
    run_log.require_open(RUN)
    run_log.require_open(replace(RUN, state="paused"))
    with pytest.raises(Refused, match=state):
        run_log.require_open(replace(RUN, state=state))


def test_the_time_that_is_left_is_told_where_it_is_known() -> None:
    assert Progress(20, 100, 8.0, {}).left_s == 10
    assert Progress(120, 100, 8.0, {}).left_s == 0
    assert Progress(0, 0, 8.0, {}).left_s is None
    assert Progress(0, 100, 0.0, {}).left_s is None


async def test_photos_begin_one_after_the_other_at_their_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, slept = 100.0, list[float]()

    async def sleep(seconds: float) -> None:
        nonlocal now_s
        slept.append(seconds)
        now_s += seconds

    monkeypatch.setattr("consumer.operations.run_work.monotonic", lambda: now_s)
    monkeypatch.setattr("consumer.operations.run_work.asyncio.sleep", sleep)
    pace = Pace(4.0, LiveTraffic(Settings()))
    for _ in range(9):
        await pace.turn()
        now_s += random.Random(1).uniform(0, 0.1)
    assert now_s >= 100 + 8 * 0.25
    # A long pause is not caught up.
    now_s += 10
    slept.clear()
    await pace.turn()
    assert slept == []
    await pace.turn()
    assert slept == [pytest.approx(0.25)]
