import pytest

from consumer.kafka import stalls
from consumer.kafka.stalls import Stalls

FIRST, SECOND = ("t", 0), ("t", 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(stalls, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("position", "end"), [(7, 7), (7, 6), (7, None), (None, 9)], ids=["at end", "behind it", "no end", "not read"]
)
def test_a_partition_without_more_to_read_does_not_stand_still(position: int | None, end: int | None) -> None:
    found = Stalls()
    found.starved()
    found.failed(FIRST, "made up")
    found.look({FIRST: position}, {} if end is None else {FIRST: end})
    assert found.oldest is None


def test_records_that_were_fetched_and_wait_their_turn_are_no_stall(clock: list[float]) -> None:
    found = Stalls()
    for _ in range(100):
        clock[0] += 1
        found.look({FIRST: 7}, {FIRST: 9})
    assert found.oldest is None


def test_a_partition_that_gives_nothing_is_as_old_as_the_first_look_and_names_its_error(clock: list[float]) -> None:
    found = Stalls()
    found.starved()
    found.look({FIRST: 7, SECOND: 3}, {FIRST: 9, SECOND: 3})
    clock[0] += 5
    found.look({FIRST: 7}, {FIRST: 9})
    assert found.oldest is not None
    assert (found.oldest.topic, found.oldest.partition, found.oldest.offset, found.oldest.age_s) == ("t", 0, 7, 5)
    assert "transaction" in found.oldest.waits_for
    found.failed(FIRST, "BAD_COMPRESSION")
    clock[0] += 5
    found.look({FIRST: 7}, {FIRST: 9})
    assert found.oldest.age_s == 10
    assert "BAD_COMPRESSION" in found.oldest.waits_for


def test_an_error_counts_though_other_partitions_keep_the_source_busy(clock: list[float]) -> None:
    found = Stalls()
    found.failed(SECOND, "made up")
    found.look({FIRST: 7, SECOND: 3}, {FIRST: 9, SECOND: 4})
    clock[0] += 1
    found.look({FIRST: 8, SECOND: 3}, {FIRST: 10, SECOND: 4})
    assert found.oldest is not None
    assert (found.oldest.partition, found.oldest.age_s) == (1, 1)


def test_a_step_forward_ends_a_stall_and_its_error(clock: list[float]) -> None:
    found = Stalls()
    found.failed(FIRST, "made up")
    found.look({FIRST: 7}, {FIRST: 9})
    clock[0] += 5
    found.look({}, {FIRST: 9})
    assert found.oldest is None
    found.starved()
    found.look({FIRST: 8}, {FIRST: 9})
    assert found.oldest is not None
    assert found.oldest.age_s == 0
    assert "made up" not in found.oldest.waits_for
