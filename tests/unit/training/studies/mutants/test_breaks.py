"""The breaks themselves: they change what they say, for one test, and an edit that changes nothing is not noticed."""

import pytest

from tests.unit.training.studies import test_grades
from tests.unit.training.studies.mutants.breaks import Break, apply, fixtures_of, noticed
from training.studies import rated
from training.studies.feed import heads
from training.studies.feed.run import Settings

globals().update(fixtures_of(test_grades))
HARMLESS = Break(
    "0.9", "nothing", "training.studies.rated", "The binary label of a rating:", "A rating's binary label:"
)


def test_an_edit_that_changes_nothing_is_not_noticed(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not noticed(HARMLESS, request, monkeypatch)


def test_a_function_a_constant_and_a_class_are_broken_for_one_test_alone() -> None:
    with pytest.MonkeyPatch.context() as patch:
        apply(Break("", "", "training.studies.rated", "0 if rating <= POOR_LEVEL", "7 if rating <= POOR_LEVEL"), patch)
        apply(Break("", "", "training.studies.feed.heads", "512, 0.4, 0.011, 0.08", "32, 0.4, 0.011, 0.08"), patch)
        apply(Break("", "", "training.studies.feed.run", '("resnet50",)\n', '("resnet18",)\n'), patch)
        assert (rated.side_of(1), heads.COMPONENTS, Settings().networks) == (7, 32, ("resnet18",))
    assert (rated.side_of(1), heads.COMPONENTS, Settings().networks) == (0, 512, ("resnet50",))


def test_a_break_of_text_that_is_no_longer_there_is_refused() -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AssertionError, match="0 times"):
        apply(Break("", "", "training.studies.rated", "no such text", ""), patch)
