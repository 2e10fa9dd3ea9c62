"""Each row of study openimages fails on broken code."""

import pytest

from tests.unit.training.studies import test_openimages
from tests.unit.training.studies.mutants.breaks import Break, fixtures_of, noticed, rows_of
from tests.unit.training.studies.mutants.of_openimages import BREAKS

globals().update(fixtures_of(test_openimages))


def test_every_row_of_the_study_has_a_break() -> None:
    assert {broken.row for broken in BREAKS} == rows_of("openimages")
    assert len({broken.id for broken in BREAKS}) == len(BREAKS)


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.id)
def test_the_rows_check_notices_the_break(
    broken: Break, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert noticed(broken, request, monkeypatch)
