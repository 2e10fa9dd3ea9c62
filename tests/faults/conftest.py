"""What every fault experiment has: a number and a title, a seed, two sizes, and a place for what it found."""

import json
import os
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.experiment import Experiment

SEED = int(os.environ.get("FAULT_SEED", "1"))
FULL = os.environ.get("FAULT_FULL", "") == "1"
#: Where `scripts/faults` wants a line for each result, and what it adds to each.
RESULTS, ABOUT = os.environ.get("FAULT_RESULTS", ""), os.environ.get("FAULT_ABOUT", "{}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "experiment(number, title): one of the faults of docs/reliability.md")


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> Experiment:
    """The experiment that the test's marker names; its chances repeat with the seed."""
    number, title = request.node.get_closest_marker("experiment").args
    report: list[tuple[str, object]] = request.node.user_properties
    report += [("experiment", number), ("title", title)]
    return Experiment(FULL, random.Random(f"{SEED} {title}"), lambda name, value: report.append((name, value)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Appends the result of an experiment at its end, so that a run that is killed later has kept it."""
    said = dict(report.user_properties)
    if not RESULTS or "experiment" not in said or not (report.when == "call" or report.failed):
        return
    result = {
        "test": report.nodeid,
        "experiment": said.pop("experiment"),
        "title": said.pop("title"),
        **json.loads(ABOUT),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": round(os.getloadavg()[0], 1),
        "seconds": round(report.duration, 1),
        "passed": report.passed,
        "message": "" if report.passed else _last_line(report),
        "values": [pair for pair in report.user_properties if pair[0] in said],
    }
    with Path(RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(result, ensure_ascii=False) + "\n")


def _last_line(report: pytest.TestReport) -> str:
    """The line of a failure that says what was wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    return text.strip().splitlines()[0][:300].replace("|", "/") if text.strip() else "failed"
