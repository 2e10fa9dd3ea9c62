"""What a candidate changes is counted exactly, in any order and in parts, within bounded memory."""

import math
import random
import tracemalloc
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.runs.answers import Answer
from consumer.runs.comparison import AGES, MOST_SHOWN, UNKNOWN, fold
from consumer.runs.gates import Gates
from consumer.runs.report import Report
from consumer.runs.summary import BARS, OTHERS, report_of
from tests.unit.runs.synthetic import RUN, STARTED, answer, plausible, tags

scores = st.integers(0, 20).map(lambda twentieths: twentieths / 20)
brands = st.dictionaries(st.sampled_from("AB"), st.sampled_from([0.2, 0.7, 0.9]))
made_tags = st.builds(tags, scores, brands, content_rev=st.sampled_from([7, 7, 7, 8]))
made = st.builds(
    answer,
    st.none() | made_tags,
    st.none() | st.builds(tags, scores, brands),
    format=st.sampled_from(["jpeg", "png", None]),
    uploaded_at=st.none() | st.integers(0, 500).map(lambda days: STARTED - timedelta(days=days)),
    took_ms=st.floats(0, 1e8),
)
many = st.lists(made, max_size=40).map(
    lambda found: [
        replace(each, photo_id=f"p{number}", before=moved(each.before, number), after=moved(each.after, number))
        for number, each in enumerate(found)
    ]
)


def moved(found: object, number: int) -> object:
    return None if found is None else replace(found, photo_id=f"p{number}")  # type: ignore[type-var]


def report(*answers: Answer, limits: Gates | None = None) -> Report:
    return report_of(RUN, fold(answers, STARTED), limits or Gates())


def test_an_order_does_not_matter_nor_do_parts() -> None:
    answers = list(plausible(600))
    whole = fold(answers, STARTED)
    random.Random(1).shuffle(answers)
    assert fold(answers, STARTED) == whole
    merged = fold(answers[:100], STARTED)
    merged.merge(fold(answers[100:], STARTED))
    assert merged == whole
    assert report_of(RUN, merged, Gates()) == report_of(RUN, whole, Gates())


@given(many, st.integers(0, 40), st.randoms(use_true_random=False))
def test_comparisons_of_parts_merge_into_that_of_all(answers: list[Answer], place: int, order: random.Random) -> None:
    whole = fold(answers, STARTED)
    order.shuffle(answers)
    merged = fold(answers[:place], STARTED)
    merged.merge(fold(answers[place:], STARTED))
    assert merged == whole


@given(many)
def test_the_counts_add_up(answers: list[Answer]) -> None:
    found = report(*answers)
    photos, changes, agreement = found.photos, found.changes, found.agreement
    assert photos.answers == len(answers) == photos.judged + photos.not_judged
    assert photos.judged == photos.compared + photos.not_tagged_before + photos.other_content
    assert sum(row.photos for row in found.not_judged) == photos.not_judged
    assert changes.any.count + agreement.all.count == photos.compared
    assert changes.higher_level.count + changes.lower_level.count + agreement.level.count == photos.compared
    assert changes.becomes_good.count + changes.no_longer_good.count + agreement.good.count == photos.compared
    assert changes.gains_brands.count + changes.loses_brands.count + agreement.brands.count >= photos.compared
    assert agreement.all.count <= min(agreement.level.count, agreement.good.count, agreement.brands.count)
    for bars in (found.quality.histogram_before, found.quality.histogram_after):
        assert (len(bars), sum(bars)) == (BARS, photos.compared)
    assert sum(map(sum, found.quality.levels)) == photos.compared
    for rows in (found.slices.level, found.slices.format, found.slices.age):
        assert sum(row.photos for row in rows) == photos.compared
        assert sum(row.unchanged.count for row in rows) == agreement.all.count
        if photos.compared:
            moved = sum(row.mean_shift * row.photos for row in rows) / photos.compared
            assert moved == pytest.approx(found.quality.mean_shift)
    for brand in found.brands:
        assert brand.after - brand.before == brand.gained - brand.lost
        assert brand.photos == brand.before + brand.gained


def test_a_candidate_that_says_the_same_changes_nothing() -> None:
    same = [replace(each, before=each.after) for each in plausible(300) if each.after is not None]
    found = report(*same)
    assert (found.changes.any.count, found.agreement.all.count) == (0, len(same))
    assert found.quality.mean_shift == 0
    assert found.quality.shift is not None
    assert {found.quality.shift.p5, found.quality.shift.p95} == {0}
    assert found.quality.before == found.quality.after
    assert not any((found.largest.quality_up, found.largest.quality_down))
    assert not any((found.largest.brands_gained, found.largest.brands_lost))


def test_each_change_counts_in_its_direction() -> None:
    found = report(
        answer(tags(0.4, {"A": 0.9}), tags(0.9, {"A": 0.9, "B": 0.7}), "up"),
        answer(tags(0.9, {"A": 0.9}), tags(0.4, {"A": 0.1}), "down"),
        answer(tags(0.5, {"A": 0.9}), tags(0.51, {"A": 0.6}), "same"),
        answer(tags(0.5, {"A": 0.9}), tags(0.5, {"B": 0.6}), "other brand"),
    )
    changes = found.changes
    assert (changes.any.count, changes.higher_level.count, changes.lower_level.count) == (3, 1, 1)
    assert (changes.becomes_good.count, changes.no_longer_good.count, changes.level_jumps.count) == (1, 1, 2)
    assert (changes.gains_brands.count, changes.loses_brands.count) == (2, 2)
    assert (changes.loses_all_brands.count, changes.loses_all_brands.of) == (1, 4)
    assert found.quality.levels[2] == (0, 0, 2, 0, 1)  # 0.4 is level 3
    assert [(row.brand, row.before, row.after, row.gained, row.lost) for row in found.brands] == [
        ("A", 4, 2, 0, 2),
        ("B", 0, 2, 2, 0),
    ]
    assert [change.photo_id for change in found.largest.quality_up] == ["up", "same"]
    assert [(change.photo_id, change.size) for change in found.largest.quality_down] == [("down", 0.5)]
    assert [change.photo_id for change in found.largest.brands_gained] == ["up", "other brand"]
    assert [change.photo_id for change in found.largest.brands_lost] == ["other brand", "down"]
    assert found.largest.brands_lost[1].size == pytest.approx(0.8)


def test_tags_of_another_upload_are_not_compared() -> None:
    found = report(answer(tags(0.1, content_rev=8), tags(0.9)), answer(None, tags(0.9), "q"))
    assert (found.photos.other_content, found.photos.not_tagged_before, found.photos.compared) == (1, 1, 0)
    assert found.quality.mean_shift is None


@pytest.mark.parametrize(
    ("days", "age"),
    [(-1, 0), (0, 0), (1, 1), (6.9, 1), (7, 2), (29.9, 2), (30, 3), (90, 4), (364.9, 4), (365, 5), (9000, 5)],
)
def test_photos_are_parted_by_their_age_at_the_start(days: float, age: int) -> None:
    found = report(answer(tags(), tags(), uploaded_at=STARTED - timedelta(days=days)))
    assert [row.name for row in found.slices.age] == [AGES[age]]


def test_ages_stand_in_their_order() -> None:
    ages = [500, 3, None, 0, 40]
    moments = [None if days is None else STARTED - timedelta(days=days) for days in ages]
    found = report(*(answer(tags(), tags(), f"p{at}", uploaded_at=at) for at in moments))
    assert [row.name for row in found.slices.age] == [AGES[0], AGES[1], AGES[3], AGES[5], AGES[6]]


def test_only_the_largest_changes_are_kept_and_ties_go_by_id() -> None:
    answers = [answer(tags(0.5), tags(0.5 + number % 40 / 100), f"p{number:03d}") for number in range(200)]
    random.Random(2).shuffle(answers)
    found = report(*answers).largest.quality_up
    assert len(found) == MOST_SHOWN
    expected = sorted(answers, key=lambda each: (-(each.after.quality.score if each.after else 0), each.photo_id))
    assert [change.photo_id for change in found] == [each.photo_id for each in expected[:MOST_SHOWN]]


def test_every_reason_has_its_examples_and_long_texts_are_cut() -> None:
    gone = [answer(None, None, f"p{number}") for number in range(100)]
    found = report(*gone, answer(None, None, "q", reason="corrupt_image", detail="x" * 5000, uri=None)).not_judged
    assert [(row.reason, row.photos, len(row.examples)) for row in found] == [
        ("http_4xx", 100, 8),
        ("corrupt_image", 1, 1),
    ]
    assert (found[1].examples[0].uri, len(found[1].examples[0].detail)) == (None, 1000)
    assert {each.photo_id for each in found[0].examples} != {f"p{number}" for number in range(8)}


def test_a_reason_without_a_name_is_unknown() -> None:
    assert [row.reason for row in report(answer(reason="")).not_judged] == [UNKNOWN]


def test_times_are_known_to_a_hundredth() -> None:
    took = [random.Random(3).lognormvariate(4, 1) for _ in range(1)] + [float(ms) for ms in range(1, 400)]
    latency = report(*(answer(None, tags(), f"p{n}", took_ms=ms) for n, ms in enumerate(took))).latency
    took.sort()
    assert latency is not None
    assert latency.p50_ms == pytest.approx(took[math.ceil(len(took) * 0.5) - 1], rel=0.01)
    assert latency.p99_ms == pytest.approx(took[math.ceil(len(took) * 0.99) - 1], rel=0.01)


def test_the_speed_counts_all_answers() -> None:
    assert report(*plausible(200)).photos_per_s == 4


def test_comparisons_of_other_runs_do_not_merge() -> None:
    with pytest.raises(ValueError, match="cannot be merged"):
        fold([], STARTED).merge(fold([], STARTED + timedelta(seconds=1)))


def test_names_beyond_the_room_are_counted_together() -> None:
    answers = [answer(tags(), tags(), f"p{number}", format=f"form-{number:03d}") for number in range(100)]
    rows = report(*answers).slices.format
    assert (len(rows), rows[-1].name, rows[-1].photos) == (65, OTHERS, 36)


def test_nothing_is_a_comparison_too() -> None:
    found = report()
    assert (found.photos.answers, found.latency, found.quality.before, found.brands) == (0, None, None, ())


def test_memory_does_not_grow_with_the_photos() -> None:
    """Every photo has a brand, a format and a change of its own, and each that cannot be judged a reason."""

    def made(number: int) -> Answer:
        score, name = number % 997 / 997, f"{number:09d}"
        after = tags(score, {name: 0.9}) if number % 10 else None
        gone = None if after is not None else f"reason {name}"
        return answer(tags(1 - score), after, name, format=name, reason=gone)

    full = fold(map(made, range(5_000)), STARTED)
    more = [made(number) for number in range(5_000, 10_000)]
    tracemalloc.start(5)
    try:
        for each in more:
            full.add(each)
        # Threads that earlier tests left behind allocate too.
        ours = tracemalloc.Filter(True, "*/consumer/runs/comparison.py", all_frames=True)
        grown = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([ours]).traces)
    finally:
        tracemalloc.stop()
    assert grown < 20_000
