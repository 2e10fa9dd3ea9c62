from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consumer.kafka.plans import FixedRanges, Subscription

A, B, C = (("t", number) for number in range(3))


class Assigning:
    """Stands for the consumer and for the source: both are told the partitions."""

    def __init__(self) -> None:
        self.at: list[tuple[str, int, int]] = []
        self.told: list[tuple[str, int]] = []

    def incremental_assign(self, partitions: list[Any]) -> None:
        self.at = [(entry.topic, entry.partition, entry.offset) for entry in partitions]

    def assigned(self, consumer: object, partitions: list[Any]) -> None:
        assert consumer is self
        self.told = [(entry.topic, entry.partition) for entry in partitions]


def deliver(plan: FixedRanges, partition: tuple[str, int], *offsets: int) -> None:
    for offset in offsets:
        assert plan.accepts(partition, offset, 0)
        plan.delivered(partition, offset)


def test_a_plan_is_finished_after_the_last_record_of_every_range() -> None:
    plan = FixedRanges({A: range(2, 4), B: range(1)})
    assert plan.total == 3
    deliver(plan, A, 2)
    deliver(plan, B, 0)
    assert not plan.finished
    deliver(plan, A, 3)
    assert plan.finished


def test_records_behind_a_range_are_left_to_others_and_end_it() -> None:
    plan = FixedRanges({A: range(10)})
    deliver(plan, A, 0, 4)
    assert not plan.finished
    assert not plan.accepts(A, 10, 0)
    assert plan.finished
    assert not plan.accepts(A, 11, 0)


def test_a_range_whose_last_records_are_gaps_ends_with_the_log() -> None:
    plan = FixedRanges({A: range(10), B: range(10)})
    assert plan.properties == {"enable.partition.eof": True}
    deliver(plan, A, 0, 7)
    plan.ended(A, 10)
    assert not plan.finished
    plan.ended(A, 10)
    plan.ended(B, 12)
    assert plan.finished


def test_empty_ranges_are_finished_from_the_start() -> None:
    assert FixedRanges({}).finished
    assert FixedRanges({A: range(5, 5), B: range(0)}).finished
    assert FixedRanges({A: range(5, 5)}).total == 0


def test_a_range_that_ends_before_it_starts_is_empty() -> None:
    plan = FixedRanges({A: range(9, 5), B: range(2)})
    assert plan.total == 2
    deliver(plan, B, 0, 1)
    assert plan.finished


def test_reading_begins_at_the_start_of_every_range_that_has_records() -> None:
    plan, edge = FixedRanges({A: range(5, 9), B: range(3, 3), C: range(1)}), Assigning()
    plan.begin(edge, edge)
    assert edge.at == [("t", 0, 5), ("t", 2, 0)]
    assert edge.told == [A, C]


def test_the_log_decides_the_order_and_the_times_what_is_wanted() -> None:
    plan = FixedRanges({A: range(4, 9)}, range(100, 200))
    taken = []
    for offset, time in {4: 100, 5: 99_999, 6: 199, 7: 99}.items():
        if plan.accepts(A, offset, time):
            plan.delivered(A, offset)
            taken.append(offset)
    assert taken == [4, 6]
    assert (plan.total, plan.finished) == (3, False), "two were found to be of other times"
    assert not plan.accepts(A, 8, 200)
    assert (plan.total, plan.finished, plan.intact) == (2, True, True)


def test_what_is_read_next_passes_over_other_times_and_ends_with_the_range() -> None:
    plan = FixedRanges({A: range(4, 6), B: range(3, 3)}, range(100, 200))
    assert (plan.next_of(A, 4), plan.next_of(B, 3)) == (4, None)
    assert not plan.accepts(A, 4, 99)
    assert plan.next_of(A, 4) == 5
    plan.delivered(A, 5)
    assert plan.next_of(A, 6) is None


def test_a_plan_whose_topic_is_deleted_ends_and_is_not_intact() -> None:
    plan = FixedRanges({A: range(4, 6), B: range(2), ("other", 0): range(3)})
    deliver(plan, B, 0, 1)
    plan.gone("t")
    assert (plan.finished, plan.intact, plan.total) == (False, False, 5)
    deliver(plan, ("other", 0), 0, 1, 2)
    assert (plan.finished, plan.total) == (True, 5)


def test_a_plan_that_was_finished_is_intact_though_its_topic_is_deleted_then() -> None:
    plan = FixedRanges({A: range(4, 5)})
    deliver(plan, A, 4)
    plan.gone("t")
    assert (plan.finished, plan.intact) == (True, True)


def test_a_log_that_ends_before_the_range_does_not_end_it_unless_records_vanished() -> None:
    plan = FixedRanges({A: range(10)})
    deliver(plan, A, 0)
    plan.ended(A, 5)
    assert not plan.finished
    plan.restarted(A)
    plan.ended(A, 5)
    assert (plan.finished, plan.intact, plan.total) == (True, False, 1)


def test_records_of_a_log_that_began_anew_below_the_range_are_not_taken() -> None:
    plan = FixedRanges({A: range(4, 9)})
    assert not plan.accepts(A, 0, 0)
    assert plan.total == 5


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=4),
    st.data(),
)
def test_whatever_the_gaps_a_plan_ends_exactly_when_nothing_in_range_is_left(
    ends: list[tuple[int, int]], data: st.DataObject
) -> None:
    ranges = {("t", number): range(start, end) for number, (start, end) in enumerate(ends)}
    plan = FixedRanges(ranges)
    taken = []
    for partition, entry in ranges.items():
        if entry.start >= entry.stop:
            continue
        log = sorted(data.draw(st.sets(st.integers(entry.start, entry.stop + 5))))
        for offset in log:
            if plan.accepts(partition, offset, 0):
                taken.append((partition, offset))
                plan.delivered(partition, offset)
            inside = offset < entry.stop
            assert ((partition, offset) in taken) == inside
            if offset < entry.stop - 1:
                assert not plan.finished
        plan.ended(partition, entry.stop)
    assert plan.finished
    assert len(taken) == plan.total


def test_a_subscription_has_the_membership_that_it_was_given_and_hears_of_the_end_of_the_log() -> None:
    eof = {"enable.partition.eof": True}
    assert Subscription("t", "earliest").properties == {**eof, "group.protocol": "classic"}
    static = Subscription("t", "latest", group_protocol="consumer", instance_id="a")
    assert static.properties == {**eof, "group.protocol": "consumer", "group.instance.id": "a"}
    assert (static.topics, static.waiting) == (["t"], False)


def test_a_plan_reads_each_topic_of_its_ranges_once() -> None:
    plan = FixedRanges({("b", 0): range(1), ("a", 1): range(2), ("b", 1): range(0)})
    assert (plan.topics, plan.waiting) == (["a", "b"], False)


def test_what_is_delivered_again_counts_once() -> None:
    plan = FixedRanges({A: range(2, 6)})
    deliver(plan, A, 2, 4)
    assert plan.total == 3
    assert plan.accepts(A, 3, 0)
    assert plan.total == 3
