from hypothesis import given
from hypothesis import strategies as st

from consumer.operations import run_processes
from consumer.operations.run_processes import _shares

#: Starts and counts of the offsets of partitions.
HELD = st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 50_000)), max_size=12).map(
    lambda spans: {("photo-runs.a", number): range(start, start + size) for number, (start, size) in enumerate(spans)}
)


@given(HELD, st.integers(1, 64))
def test_each_partition_is_in_one_share_and_the_shares_are_alike(
    held: dict[tuple[str, int], range], cores: int
) -> None:
    shares = _shares(held, cores)
    assert 1 <= len(shares) <= min(cores, 16)
    given_out = [each for share in shares for each in share.items()]
    assert sorted(given_out) == sorted((key, each) for key, each in held.items() if each)
    loads = [sum(map(len, share.values())) for share in shares]
    assert max(loads) - min(loads) <= max(map(len, held.values()), default=0)


def test_few_answers_are_not_worth_a_second_process() -> None:
    held = {("photo-runs.a", number): range(run_processes._WORTH_SHARING // 4 - 1) for number in range(4)}
    assert len(_shares(held, 8)) == 1
    assert len(_shares({key: range(2 * len(each)) for key, each in held.items()}, 8)) == 2
