"""`benchmarks/models.py`: what the table says about rounds that were measured in turns."""

from pathlib import Path

import pytest

from benchmarks.models import Measured, given, table


def test_a_cell_is_the_median_and_a_ratio_that_of_the_rounds() -> None:
    rates = {("fp32", 8): [100.0, 50.0, 80.0], ("int8", 8): [300.0, 200.0, 160.0], ("fp32", 1): [10.0]}
    *_, line = table([Measured("net", 96, {}, rates)]).splitlines()
    assert line == "| net | 10 | - | 80 | 200 | - | 3.00 |"


def test_what_holds_no_graph_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"{tmp_path} is neither a graph nor a folder"):
        given(tmp_path)
