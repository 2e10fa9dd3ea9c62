from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from consumer.runs.bounded import Named, Smallest

names = st.lists(st.text("abcdef", min_size=1, max_size=2), max_size=30)
keys = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 99)), max_size=30, unique=True)


@dataclass
class Count:
    count: int = 0

    def merge(self, other: "Count") -> None:
        self.count += other.count


def named(texts: list[str], most: int = 4) -> Named[Count]:
    made = Named(Count, most)
    for text in texts:
        made.of(text).count += 1
    return made


def smallest(pairs: list[tuple[int, int]], most: int = 4) -> Smallest[int]:
    made: Smallest[int] = Smallest(most)
    for number, text in pairs:
        made.add(number, f"{text:02d}", text)
    return made


@given(names, st.randoms())
def test_the_first_names_are_counted_exactly_in_any_order(texts: list[str], random: object) -> None:
    found = named(texts)
    first = sorted(set(texts))[:4]
    assert [(name, part.count) for name, part in found.items()] == [(name, texts.count(name)) for name in first]
    assert found.rest.count == len(texts) - sum(texts.count(name) for name in first)
    random.shuffle(texts)  # type: ignore[attr-defined]
    assert named(texts).items() == found.items()


@given(names, names)
def test_names_of_parts_merge_into_those_of_all(one: list[str], other: list[str]) -> None:
    merged = named(one)
    merged.merge(named(other))
    assert (merged.items(), merged.rest) == (named(one + other).items(), named(one + other).rest)


def test_a_name_is_kept_to_200_characters() -> None:
    assert named(["x" * 200 + "y", "x" * 200 + "z"]).items() == [("x" * 200, Count(2))]


@given(keys, keys)
def test_the_smallest_of_parts_merge_into_those_of_all(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    other = [pair for pair in other if pair not in one]
    merged = smallest(one)
    merged.merge(smallest(other))
    assert list(merged) == [text for _, text in sorted(one + other)[:4]]
