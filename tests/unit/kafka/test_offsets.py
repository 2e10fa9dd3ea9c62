import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consumer.kafka import offset_map
from consumer.kafka.offsets import OffsetTracker

PARTITIONS = [("t", 0), ("t", 1)]
A, B = PARTITIONS
which = st.sampled_from(PARTITIONS)


class Assignment:
    """The naive model of one assignment: everything that was delivered, and what of it is unfinished."""

    def __init__(self, epoch: int | None = None) -> None:
        self.epoch = epoch
        self.delivered: list[int] = []
        self.unfinished: set[int] = set()

    @property
    def watermark(self) -> int | None:
        if not self.delivered:
            return None
        if self.unfinished:
            open_below = min(self.unfinished)
            finished = [offset for offset in self.delivered if offset < open_below]
            return finished[-1] + 1 if finished else self.delivered[0]
        return self.delivered[-1] + 1


def positions(tracker: OffsetTracker) -> dict[tuple[str, int], int]:
    """The positions that moved since they were taken last."""
    moved, others = tracker.take_commits()
    return {partition: commit.position for partition, commit in {**moved, **others}.items()}


class Tracking(RuleBasedStateMachine):
    """Any order of assigning, delivering, finishing, losing and storing, against sets."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = OffsetTracker()
        self.model: dict[tuple[str, int], Assignment] = {}
        self.late: list[tuple[tuple[str, int], int, int]] = []
        self.stored: dict[tuple[str, int], int] = {}
        self.next_offset = dict.fromkeys(PARTITIONS, 0)

    def lose(self, partition: tuple[str, int]) -> None:
        gone = self.model.pop(partition, None)
        if gone is not None and gone.epoch is not None:
            self.late += [(partition, offset, gone.epoch) for offset in gone.unfinished]
        self.stored.pop(partition, None)

    @rule(partition=which, back=st.integers(0, 20))
    def assign(self, partition: tuple[str, int], back: int) -> None:
        self.lose(partition)
        self.tracker.assign(partition)
        self.model[partition] = Assignment()
        self.next_offset[partition] = max(0, self.next_offset[partition] - back)

    @rule(partition=which)
    def forget(self, partition: tuple[str, int]) -> None:
        self.lose(partition)
        self.tracker.forget(partition)

    @rule(partition=which, gap=st.sampled_from([0, 0, 0, 1, 5]))
    def deliver(self, partition: tuple[str, int], gap: int) -> None:
        offset = self.next_offset[partition] + gap
        epoch = self.tracker.add(partition, offset)
        if partition not in self.model:
            assert epoch is None
            return
        assert epoch is not None
        assignment = self.model[partition]
        assert assignment.epoch in {None, epoch}
        assignment.epoch = epoch
        assignment.delivered.append(offset)
        assignment.unfinished.add(offset)
        self.next_offset[partition] = offset + 1

    @precondition(lambda self: any(assignment.unfinished for assignment in self.model.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        open_ones = [(p, offset) for p, model in sorted(self.model.items()) for offset in sorted(model.unfinished)]
        partition, offset = data.draw(st.sampled_from(open_ones))
        assert self.tracker.finish(partition, offset, self.model[partition].epoch)
        self.model[partition].unfinished.remove(offset)

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def finish_late(self, data: st.DataObject) -> None:
        before = [
            (self.tracker.window(partition).position, self.tracker.window(partition).in_flight)
            for partition in PARTITIONS
        ]
        assert not self.tracker.finish(*data.draw(st.sampled_from(self.late)))
        assert before == [
            (self.tracker.window(partition).position, self.tracker.window(partition).in_flight)
            for partition in PARTITIONS
        ]

    @rule()
    def store(self) -> None:
        committed = positions(self.tracker)
        moved = {p: position for p, position in committed.items() if self.stored.get(p) != position}
        wanted = {p: model.watermark for p, model in self.model.items() if model.watermark is not None}
        assert moved == {p: position for p, position in wanted.items() if self.stored.get(p) != position}
        for partition, position in moved.items():
            assert position > self.stored.get(partition, -1)
        self.stored.update(moved)
        assert self.tracker.take_commits() == ({}, {})

    @invariant()
    def the_watermark_is_never_above_an_unfinished_record(self) -> None:
        for partition, assignment in self.model.items():
            position = self.tracker.window(partition).position
            assert position == assignment.watermark
            if assignment.unfinished:
                assert position is not None
                assert position <= min(assignment.unfinished)

    @invariant()
    def what_is_in_flight_is_what_is_unfinished(self) -> None:
        assert self.tracker.in_flight == sum(len(assignment.unfinished) for assignment in self.model.values())
        assert set(self.tracker.partitions) == set(self.model)
        for partition in PARTITIONS:
            assignment = self.model.get(partition)
            assert self.tracker.window(partition).in_flight == (0 if assignment is None else len(assignment.unfinished))


TestTracking = Tracking.TestCase
TestTracking.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def assigned(*partitions: tuple[str, int]) -> OffsetTracker:
    tracker = OffsetTracker()
    for partition in partitions:
        tracker.assign(partition)
    return tracker


def test_the_position_waits_for_the_first_unfinished_record_and_then_jumps() -> None:
    tracker = assigned(A)
    epochs = [tracker.add(A, offset) for offset in (10, 11, 14)]
    for offset, position in [(14, 10), (11, 10), (10, 15)]:
        assert tracker.finish(A, offset, epochs[0] or 0)
        assert tracker.window(A).position == position


def test_a_gap_in_the_log_holds_nothing_up() -> None:
    tracker = assigned(A)
    epoch = tracker.add(A, 3) or 0
    tracker.add(A, 900)
    tracker.finish(A, 3, epoch)
    assert tracker.window(A).position == 4
    tracker.finish(A, 900, epoch)
    assert tracker.window(A).position == 901


def test_partitions_do_not_hold_each_other_up() -> None:
    tracker = assigned(A, B)
    tracker.add(A, 0)
    epoch = tracker.add(B, 5) or 0
    tracker.finish(B, 5, epoch)
    assert (tracker.window(A).position, tracker.window(B).position) == (0, 6)


@pytest.mark.parametrize("offset", [4, 5])
def test_a_record_that_was_delivered_before_is_an_error(offset: int) -> None:
    tracker = assigned(A)
    epoch = tracker.add(A, 5) or 0
    with pytest.raises(ValueError, match=f"offset {offset} was delivered before"):
        tracker.add(A, offset)
    tracker.finish(A, 5, epoch)
    with pytest.raises(ValueError, match=f"offset {offset} was delivered before"):
        tracker.add(A, offset)


@pytest.mark.parametrize("offset", [5, 6])
def test_a_record_that_is_not_in_flight_cannot_be_finished(offset: int) -> None:
    tracker = assigned(A)
    epoch = tracker.add(A, 5) or 0
    tracker.finish(A, 5, epoch)
    with pytest.raises(ValueError, match=f"offset {offset} is not in flight"):
        tracker.finish(A, offset, epoch)


def test_a_partition_that_comes_back_starts_anew_and_its_old_records_no_longer_count() -> None:
    tracker = assigned(A)
    old = tracker.add(A, 50) or 0
    tracker.assign(A)
    assert tracker.window(A).position is None
    new = tracker.add(A, 40) or 0
    assert new != old
    assert not tracker.finish(A, 50, old)
    assert not tracker.finish(A, 40, old)
    assert tracker.finish(A, 40, new)
    assert positions(tracker) == {A: 41}


def test_a_partition_that_is_not_ours_takes_no_records() -> None:
    tracker = assigned(A)
    tracker.forget(A)
    assert tracker.add(A, 1) is None
    assert tracker.window(A).position is None
    assert tracker.partitions == ()


def test_the_place_where_reading_began_is_reported_before_anything_is_finished() -> None:
    tracker = assigned(A)
    tracker.add(A, 7)
    assert positions(tracker) == {A: 7}
    assert positions(tracker) == {}


class Handover(RuleBasedStateMachine):
    """One partition that changes its owner again and again; each starts from what the last one committed."""

    LOG_LENGTH = 60

    def __init__(self) -> None:
        super().__init__()
        self.tracker = OffsetTracker()
        self.finished: set[int] = set()
        self.committed = (0, "")
        self.safe: set[int] = set()
        self.take_over()

    def take_over(self) -> None:
        position, metadata = self.committed
        self.tracker.assign(A, position, offset_map.decode(position, metadata))
        self.read_to = position
        self.open: dict[int, int] = {}
        self.committed_now()

    def committed_now(self) -> None:
        position, metadata = self.committed
        self.safe = set(range(position)) | offset_map.decode(position, metadata)

    @precondition(lambda self: self.read_to < self.LOG_LENGTH)
    @rule(gap=st.sampled_from([0, 0, 0, 2]))
    def read(self, gap: int) -> None:
        offset = self.read_to + gap
        epoch = self.tracker.add(A, offset)
        assert (epoch is None) == (offset in self.safe), "work that was committed as done is repeated, or lost"
        if epoch is not None:
            self.open[offset] = epoch
        self.read_to = offset + 1

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.open)))
        assert self.tracker.finish(A, offset, self.open.pop(offset))
        self.finished.add(offset)

    @rule()
    def commit(self) -> None:
        moved, remapped = self.tracker.take_commits()
        for commit in (*moved.values(), *remapped.values()):
            assert commit.position >= self.committed[0]
            self.committed = (commit.position, commit.metadata)
            assert len(commit.metadata) < 4_096

    @rule()
    def crash(self) -> None:
        self.take_over()

    @invariant()
    def nothing_unfinished_is_committed_as_done(self) -> None:
        position, metadata = self.committed
        assert all(offset not in self.open for offset in offset_map.decode(position, metadata))
        assert not any(offset < position for offset in self.open)


TestHandover = Handover.TestCase
TestHandover.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_a_stuck_head_shows_in_the_span_and_the_map_still_fits() -> None:
    tracker = assigned(A)
    tracker.add(A, 0)
    for offset in range(1, offset_map.CAPACITY):
        tracker.finish(A, offset, tracker.add(A, offset) or 0)
    assert tracker.window(A).span == offset_map.CAPACITY
    _, others = tracker.take_commits()
    assert len(others[A].metadata) < 4_096
    assert offset_map.decode(0, others[A].metadata) == frozenset(range(1, offset_map.CAPACITY))


def test_the_position_reaches_the_end_of_the_log_where_no_record_is_left_before_it() -> None:
    tracker = OffsetTracker()
    tracker.assign(A, 5)
    tracker.window(A).reach(9)
    assert positions(tracker) == {A: 9}


def test_the_end_of_the_log_is_reached_only_over_finished_records() -> None:
    tracker = assigned(A)
    epochs = [tracker.add(A, offset) or 0 for offset in (5, 6)]
    tracker.window(A).reach(9)
    assert tracker.window(A).position == 5
    tracker.finish(A, 6, epochs[1])
    assert tracker.window(A).position == 5
    tracker.finish(A, 5, epochs[0])
    assert tracker.window(A).position == 9


def test_an_end_that_was_passed_takes_nothing_back() -> None:
    tracker = OffsetTracker()
    tracker.assign(A, 5)
    tracker.window(A).reach(3)
    assert tracker.window(A).position == 5
    tracker.window(A).reach(9)
    epoch = tracker.add(A, 12) or 0
    tracker.window(A).reach(11)
    assert tracker.window(A).position == 9
    tracker.finish(A, 12, epoch)
    assert tracker.window(A).position == 13


def test_a_refused_commit_and_a_new_identity_are_committed_again_by_hand() -> None:
    tracker = OffsetTracker()
    tracker.assign(A, 5)
    assert tracker.take_commits() == ({}, {})
    tracker.identify(A, "I" * 22)
    _, others = tracker.take_commits()
    assert offset_map.topic_of(5, others[A].metadata) == "I" * 22
    tracker.refused(A)
    assert tracker.take_commits() == ({}, others)


def test_what_vanished_unread_is_counted_without_what_was_read_or_finished_before() -> None:
    tracker = OffsetTracker()
    tracker.assign(A, 10, frozenset({12, 15, 40}))
    assert tracker.window(A).unread_below(20) == 8
    tracker.add(A, 10)
    tracker.add(A, 13)
    assert tracker.window(A).unread_below(20) == 5
    assert tracker.window(A).unread_below(13) == 0
    assert OffsetTracker().window(A).unread_below(20) == 0


def test_what_an_earlier_owner_finished_moves_the_position_as_soon_as_it_is_read_again() -> None:
    tracker = OffsetTracker()
    tracker.assign(A, 10, frozenset({10, 11}))
    for offset in (10, 11):
        assert tracker.add(A, offset) is None
        assert tracker.window(A).position == offset + 1
