import random
import statistics
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from consumer.runs.figures import Histogram, WorkSpan, share

values = st.lists(st.integers(-50, 1_050), max_size=40)


def counted(numbers: list[int], width: int = 1) -> Histogram:
    histogram = Histogram.over(0, 1_000, width)
    for number in numbers:
        histogram.add(number)
    return histogram


@given(st.integers(0, 10**7).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_an_interval_contains_its_share_and_stays_within_0_and_1(pair: tuple[int, int]) -> None:
    found = share(*pair)
    assert 0 <= found.low <= found.high <= 1
    assert found.share is None or found.low <= found.share <= found.high
    assert (found.low == 0) == (found.count == 0)
    assert (found.high == 1) == (found.count == found.of)


@pytest.mark.parametrize(("count", "of"), [(0, 7), (7, 7), (3, 10), (150, 20_000), (1, 10**7)])
def test_an_interval_is_wilsons(count: int, of: int) -> None:
    theirs = stats.binomtest(count, of).proportion_ci(0.95, method="wilson")
    assert (share(count, of).low, share(count, of).high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_of_no_photos_nothing_is_known() -> None:
    assert (share(0, 0).share, share(0, 0).low, share(0, 0).high) == (None, 0, 1)


@given(values.filter(bool), st.floats(0, 1))
def test_at_least_that_share_is_at_most_a_quantile_and_less_is_below_it(numbers: list[int], part: float) -> None:
    inside = [min(max(number, 0), 1_000) for number in numbers]
    (found,) = counted(numbers).quantiles([part]) or ()
    assert found in inside
    assert sum(number <= found for number in inside) >= part * len(inside)
    assert found == min(inside) or sum(number < found for number in inside) < part * len(inside)


@given(values)
def test_the_mean_is_exact_whatever_the_bins(numbers: list[int]) -> None:
    expected = statistics.fmean(numbers) if numbers else None
    assert counted(numbers, 100).mean() == pytest.approx(expected)


@given(st.integers(0, 1_000), st.sampled_from([1, 4, 5, 100]))
def test_a_value_is_known_to_half_a_bin(number: int, width: int) -> None:
    (found,) = counted([number], width).quantiles([0.5]) or ()
    assert abs(found - number) * 2 <= width
    assert found % width == 0


@given(values, values)
def test_histograms_of_parts_merge_into_that_of_all(one: list[int], other: list[int]) -> None:
    merged = counted(one)
    merged.merge(counted(other))
    assert merged == counted(one + other)


def test_of_nothing_there_is_neither_mean_nor_quantile() -> None:
    assert (counted([]).mean(), counted([]).quantiles([0.5])) == (None, None)


def test_histograms_of_other_bins_do_not_merge() -> None:
    with pytest.raises(ValueError, match="other bins"):
        counted([], 1).merge(counted([], 2))


def span_of(times_ms: list[int]) -> float | None:
    span = WorkSpan()
    for each in times_ms:
        span.add(each)
    return span.seconds


@given(st.integers(0, 2**40), st.lists(st.integers(1, 9_999), min_size=1, max_size=80), st.randoms())
def test_work_without_pauses_takes_from_the_first_to_the_last(
    start: int, gaps: list[int], chance: random.Random
) -> None:
    times = list(accumulate(gaps, initial=start))
    chance.shuffle(times)
    assert span_of(times) == pytest.approx(sum(gaps) / 1000)


def test_a_night_between_two_hours_of_work_does_not_count() -> None:
    evening = range(1_000_000, 4_600_000, 5_000)
    morning = [each + 40_000_000 for each in evening]
    assert span_of([*evening, *morning]) == pytest.approx(2 * 3600, abs=20)


def test_of_one_moment_no_time_is_known() -> None:
    assert (span_of([]), span_of([7, 7])) == (None, None)
