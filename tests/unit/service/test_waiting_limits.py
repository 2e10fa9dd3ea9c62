import threading

from hypothesis import given
from hypothesis import strategies as st

from consumer.service.waiting_limits import Load, MoveBudget, size_of
from tests.fakes import record

BURST, PACE = 512 * 1024 * 1024, 2 * 1024 * 1024


def test_reading_is_suspended_at_the_limit_until_half_is_free_and_while_all_are() -> None:
    suspended, one = threading.Event(), record(b"x" * 50)
    size = size_of(one)
    load = Load(4 * size, suspended)
    told = []
    for change in (load.add, load.add, load.add, load.add, load.remove, load.remove, load.add, load.remove):
        change(one)
        told.append(load.is_set())
    assert told == [False, False, False, True, True, False, False, False]
    suspended.set()
    assert load.is_set()


def test_what_the_sender_chose_counts_and_a_record_may_lack_all_of_it() -> None:
    assert size_of(record(b"12345", headers=(("name", b"123"), ("none", None)))) == len("photo-1") + 5 + 4 + 3 + 4


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 100_000_000)), min_size=1, max_size=300))
def test_in_any_history_records_and_bytes_stay_below_the_burst_and_the_pace(steps: list[tuple[float, int]]) -> None:
    budget, now_s = MoveBudget(), 0.0
    sizes: list[int] = []
    for waited_s, size in steps:
        now_s += waited_s
        if budget.take(size, now_s):
            sizes.append(size)
    assert len(sizes) <= 10_000 + 100 * now_s + 1
    assert sum(sizes[:-1]) <= BURST + PACE * now_s


@given(st.integers(0, 2 * BURST))
def test_a_record_of_any_size_moves_in_the_end(size: int) -> None:
    budget, now_s = MoveBudget(), 0.0
    while budget.take(BURST // 3, now_s):
        pass
    now_s += BURST // 3 / PACE + 0.1
    assert budget.take(size, now_s)
    assert budget.take(size, now_s + max(0.02, size / PACE))
