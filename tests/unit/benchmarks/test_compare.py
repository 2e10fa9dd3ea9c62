"""`benchmarks/compare`: the mix of photos, and what the tables say of the measurements."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.compare import contenders, photos, report
from benchmarks.compare.__main__ import Comparison, Sizes
from benchmarks.compare.burst import Burst
from benchmarks.compare.contenders import NAMES, OURS, OVERLAPPED
from benchmarks.compare.ideal import Ideal
from benchmarks.compare.latency import Beside, Latency
from benchmarks.compare.report import Results
from benchmarks.compare.rig import Failed, Result, right
from consumer.tags import Quality, Tags
from tests.fakes import tags

TITLES = {name: f"the {name}" for name in NAMES}


def burst(rate: float = 100.0, client_ms: float = 4.0, right: int = 10, others: float = 0.0) -> Burst:
    cpu_ms = {"client": client_ms, "Triton": 2.0, "driver": 50.0, "host": 70.0}
    return Burst(10, right, rate, cpu_ms, 100.0, others, 0.0)


def markdown(results: Results, cores: int = 2) -> str:
    return report.markdown(results, TITLES, {"date": "2026-11-28"}, cores)


def row(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_mix_keeps_its_shares_and_its_order() -> None:
    names = photos.mix(600, seed=1)
    assert Counter(name.split("-")[0] for name in names) == {"small": 360, "middle": 180, "large": 60}
    assert names == photos.mix(600, seed=1) != photos.mix(600, seed=2)
    assert len(photos.mix(7, seed=1)) == 7
    assert set(names) <= set(photos.every_name())


def test_the_driver_and_the_host_of_photos_cost_nobody() -> None:
    assert burst().sum_ms == 6.0


def test_ratios_compare_within_a_round() -> None:
    # In the second round the machine was twice as slow for all.
    results = Results(
        bursts={OURS: {0: burst(100), 1: burst(50), 2: burst(1)}, OVERLAPPED: {0: burst(200), 1: burst(100)}},
        ideals={1: Ideal(10.0, 30.0), 0: Ideal(5.0, 5.0)},
    )
    text = markdown(results)
    assert row(text, "rate, ours ÷ the overlapped")[1] == "0.50"
    assert results.ideals[0].rate > results.ideals[1].rate


def test_the_best_framework_is_the_one_of_the_highest_median() -> None:
    quix = {0: burst(10), 1: burst(80), 2: burst(500)}
    results = Results(bursts={OURS: dict.fromkeys(range(3), burst(100)), "bytewax": {0: burst(90)}, "quix": quix})
    cells = row(markdown(results), "rate, ours ÷ best framework")
    assert cells[:2] == ["rate, ours ÷ best framework (the bytewax)", "1.11"]


def test_what_was_not_measured_has_no_ratio() -> None:
    text = markdown(Results(bursts={OURS: {0: burst()}}))
    assert row(text, "rate, ours ÷ the overlapped")[1] == row(text, "live p99")[1] == "-"


def test_latency_memory_and_replay_have_their_ratios() -> None:
    def latency(p99_ms: float) -> Latency:
        return Latency(30.0, 5.0, p99_ms, 0.0, 0.0)

    results = Results(
        latencies={OURS: {0.3: latency(20), 0.7: latency(40)}, OVERLAPPED: {0.3: latency(60), 0.7: latency(160)}},
        beside=[Beside(latency(20), latency(30), outlasted=True), Beside(latency(1), latency(90), outlasted=False)],
        peaks={OURS: {1_000_000: 110.0, 10_000: 100.0}},
    )
    text = markdown(results)
    assert row(text, "p99 at 70% load")[1] == "0.25"
    assert row(text, "live p99")[1] == "1.50"
    assert row(text, "peak memory of ours")[1] == "1.10"


def test_a_rate_that_a_contender_cannot_do_is_left_empty() -> None:
    results = Results(latencies={"sequential": {0.3: Latency(30.0, 5.0, 9.0, 0.0, 0.0)}})
    assert row(markdown(results), "the sequential")[1:] == ["5.0", "9.0", "0.00", "-", "-", "-"]


@pytest.mark.parametrize(("others", "cores", "busy"), [(0.1, 2, False), (0.3, 2, True), (0.3, 8, False)])
def test_a_busy_machine_is_called_busy(others: float, cores: int, busy: bool) -> None:
    text = markdown(Results(bursts={OURS: {0: burst(others=others)}}), cores)
    assert f"used {others:.2f} cores of {cores}" in text
    assert ("A busy machine" in text) is busy


def test_a_contender_that_fails_is_noted_and_the_next_one_is_measured() -> None:
    def fail() -> float:
        raise Failed("burst0-quix: has ended after 3 of 10 results\n  the end of its log")

    rig: Any = None
    comparison = Comparison(rig, Sizes(10, 1, 0, 1.0, (), 0, 0, (), 0.0), ["quix"])
    assert comparison._try(fail) is None
    assert comparison._try(lambda: 1.0) == 1.0
    assert comparison.results.problems == ["burst0-quix: has ended after 3 of 10 results"]


def test_wrong_results_and_failures_are_shown() -> None:
    results = Results(bursts={OURS: {0: burst(right=9), 1: burst()}}, problems=["burst0-quix: is silent"])
    text = markdown(results)
    assert "19/20" in row(text, "the ours")
    assert "- burst0-quix: is silent" in text


def test_a_result_is_right_if_its_scores_are_as_expected_and_redis_has_the_same_tags() -> None:
    good = tags()
    expected = {"score": 0.75, "probabilities": dict(good.probabilities)}
    missed = {name: value + 0.01 for name, value in good.probabilities.items()}
    other = tags(quality=Quality(0.76, 4, good=True))

    def count(found: Tags, stored: Tags | None, wanted: dict[str, Any]) -> int:
        reader = SimpleNamespace(get_many=lambda _: {} if stored is None else {"photo-1": stored})
        rig: Any = SimpleNamespace(reader=reader, reference=SimpleNamespace(photos={"a.jpg": wanted}))
        return right(rig, {"photo-1": "a.jpg"}, {"photo-1": Result(0.0, found)})

    assert count(good, good, expected) == 1
    assert count(good, None, expected) == 0
    assert count(good, tags(version=good.version[:-1] + "9"), expected) == 0
    assert count(good, tags(brands=()), expected) == 0
    assert count(other, other, expected) == 0
    assert count(good, good, {**expected, "probabilities": missed}) == 0
    assert count(good, good, {**expected, "probabilities": {}}) == 0


def test_only_the_block_of_a_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = "<!-- make bench: begin -->", "<!-- make bench: end -->"
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    for block in (r"new \1", "newer"):
        report.replace_block(page, block)
        assert page.read_text() == f"before\n{begin}\n{block}\n{end}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no lines <!-- make bench: begin"):
        report.replace_block(page, "new")


@pytest.mark.parametrize("name", contenders.FRAMEWORKS)
def test_a_framework_is_named_with_its_pinned_version(name: str) -> None:
    assert contenders.title(name).split()[1][0].isdigit()


def test_performance_has_a_place_for_the_tables() -> None:
    text = (contenders.ROOT / "docs" / "explanation" / "performance.md").read_text()
    assert text.index("<!-- make bench: begin -->") < text.index("<!-- make bench: end -->")
