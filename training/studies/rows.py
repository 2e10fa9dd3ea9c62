"""The table over all rows of the studies' checklists: what, which test shows it, and what that test says."""

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from training.errors import DataError
from training.studies.page import table_text
from training.studies.study import Row, Study

NOT_RUN: Final = "not run"
_ROOT: Final = Path(__file__).parents[2]
#: Where `--run` writes.
PAGE: Final = _ROOT / "docs" / "studies" / "rows.md"
_HEAD: Final = ("row", "study", "what", "test", "result")


def run(studies: Iterable[Study]) -> dict[str, str]:
    """Runs the test of every row by pytest; row number to passed, failed or missing.

    Raises:
        DataError: The tests are not here: they come with the sources, not with the installed package.
    """
    rows = [row for study in studies for row in study.rows]
    if not (_ROOT / "tests").is_dir():
        raise DataError("the rows' tests are in the sources of the project, which are not here")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        wanted = sorted({row.test for row in rows if _exists(row)})
        arguments = [*wanted, "-q", f"--junitxml={report}", "-o", "junit_family=xunit1"]
        subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=_ROOT, check=False, stdout=sys.stderr)  # noqa: S603
        said = _said(report) if report.is_file() else {}
    return {row.number: said.get(row.test, "missing") for row in rows}


def _exists(row: Row) -> bool:
    file, _, name = row.test.partition("::")
    path = _ROOT / file
    return path.is_file() and f"def {name}(" in path.read_text()


def _said(report: Path) -> dict[str, str]:
    """Node id, without parameters, to the worst of its results."""
    found: dict[str, str] = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - pytest wrote it a moment ago
        test = f"{case.get('file')}::{str(case.get('name')).partition('[')[0]}"
        tags = {child.tag for child in case}
        result = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        if result != "passed" or test not in found:
            found[test] = result
    return found


def table(studies: Iterable[Study], results: dict[str, str]) -> list[tuple[str, ...]]:
    """A line for each row."""
    return [
        (row.number, study.name, row.what, row.test, results.get(row.number, NOT_RUN))
        for study in studies
        for row in study.rows
    ]


def markdown(studies: Iterable[Study], results: dict[str, str]) -> str:
    """The page of the table."""
    lines = table(studies, results)
    passed = sum(line[-1] == "passed" for line in lines)
    day = datetime.now(UTC).date().isoformat()
    return (
        "# Rows of the five studies\n\n"
        f"Written by `photo-trainer study --rows --run` on {day}: {passed} of {len(lines)} rows passed.\n\n"
        + table_text(_HEAD, [(a, b, c, f"`{d}`", e) for a, b, c, d, e in lines])
        + "\n"
    )
