import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.embedded.paths import repository_root
from consumer.sizing import Costs, Sizing, bounds, size, worker_rate

RATES = (100, 1_000, 10_000, 100_000)


def sized(rate: float, *, stored: float = 1e7, load: float = 0.7, costs: Costs | None = None) -> Sizing:
    return size(rate, stored, load=load, days=7, costs=costs or Costs())


def amounts(sizing: Sizing) -> dict[str, float]:
    return {need.what: need.amount for need in sizing.needs}


@given(st.floats(0.1, 1e6), st.floats(0.05, 1))
def test_twice_the_rate_never_needs_less_and_cores_twice_as_many(rate: float, load: float) -> None:
    once, twice = amounts(sized(rate, load=load)), amounts(sized(2 * rate, load=load))
    assert all(twice[what] >= amount for what, amount in once.items())
    assert twice["cores for the service"] == pytest.approx(2 * once["cores for the service"])


def test_the_arithmetic_is_that_of_the_words() -> None:
    needed = amounts(sized(1_000, stored=1e6, load=0.5))
    assert needed["cores for Triton, models on the CPU"] == pytest.approx(1_000 * 14.3 / 1_000 / 0.5)
    assert needed["memory of Redis"] == pytest.approx(1e6 * 400 / 1e9)
    assert needed["network for photos"] == pytest.approx(1_000 * 346_000 * 8 / 1e9)
    assert needed["disk for photo-uploads"] == pytest.approx(1_000 * 86_400 * 7 * 250 / 1e9)
    assert needed["workers"] * worker_rate(Costs(), 0.5) >= 1_000


def test_what_binds_first_comes_first_and_moves_with_the_costs() -> None:
    found = bounds(Costs(), 0.7)
    assert [each.photos_per_s for each in found] == sorted(each.photos_per_s for each in found)
    assert found[0].what == "one core for Triton's models"
    assert bounds(replace(Costs(), triton_ms=0.5), 0.7)[0].what == "one core for the service"


@pytest.mark.parametrize("wrong", [0, -1, float("nan")])
def test_a_rate_or_a_cost_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        sized(wrong)
    with pytest.raises(ValueError, match="above 0"):
        Costs(client_ms=wrong)


def test_the_table_of_the_page_is_what_the_command_says() -> None:
    page = (repository_root() / "docs" / "explanation" / "sizing.md").read_text()
    rows = dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", page, re.MULTILINE))
    for place, rate in enumerate(RATES):
        for what, amount in amounts(sized(rate)).items():
            cell = rows[what].split(" | ")[place].replace(",", "").split()[0]
            assert float(cell) == pytest.approx(amount, rel=0.05, abs=0.06), (what, rate)
