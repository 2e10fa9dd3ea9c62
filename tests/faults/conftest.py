"""What every fault experiment has: a number and a title, a seed, two sizes, and a place for what it found."""

import os
import random

import pytest

from tests.faults.experiment import Experiment

SEED = int(os.environ.get("FAULT_SEED", "1"))
FULL = os.environ.get("FAULT_FULL", "") == "1"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "experiment(number, title): one of the faults of docs/reliability.md")


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> Experiment:
    """The experiment that the test's marker names; its chances repeat with the seed."""
    number, title = request.node.get_closest_marker("experiment").args
    report: list[tuple[str, object]] = request.node.user_properties
    report += [("experiment", number), ("title", title)]
    return Experiment(FULL, random.Random(f"{SEED} {title}"), lambda name, value: report.append((name, value)))
