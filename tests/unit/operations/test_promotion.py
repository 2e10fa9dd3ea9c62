"""Which releases use a version, and which versions must stay loaded."""

from dataclasses import replace
from datetime import UTC, datetime

from consumer.contract import Geometry
from consumer.operations.promotion import Use, needed, uses
from consumer.releases import Decision, ModelVersion, Numbered, Release

AT = datetime(2026, 11, 28, tzinfo=UTC)
SIZES = {"q": Geometry(32, 32), "b": Geometry(32, 32)}
FIRST = Release(ModelVersion("q", "1"), ModelVersion("b", "1"), Decision(0.5, 0.6), "0" * 64, SIZES, "first", "me", AT)


def q(version: int) -> ModelVersion:
    return ModelVersion("q", str(version))


def log(*versions: int) -> list[Numbered]:
    """Releases whose quality models have these versions."""
    return [Numbered(place + 1, replace(FIRST, quality=q(version))) for place, version in enumerate(versions)]


def test_the_last_two_that_came_into_force_keep_their_versions_loaded() -> None:
    found = uses(log(1, 2, 3))
    assert found == {
        q(1): Use(1, "earlier"),
        q(2): Use(2, "one step back"),
        q(3): Use(3, "in force"),
        ModelVersion("b", "1"): Use(3, "in force"),
    }
    assert needed(log(1, 2, 3)) == {
        ("q", 2): "one step back, release 2",
        ("q", 3): "in force, release 3",
        ("b", 1): "in force, release 3",
    }


def test_a_release_that_changes_nothing_is_no_step() -> None:
    assert uses(log(1, 2, 2))[q(1)] == Use(1, "one step back")


def test_a_version_that_came_back_is_in_force() -> None:
    found = uses(log(1, 2, 1))
    assert (found[q(1)], found[q(2)]) == (Use(3, "in force"), Use(2, "one step back"))


def test_other_thresholds_are_a_step_of_the_same_versions() -> None:
    stricter = Numbered(3, replace(FIRST, quality=q(2), decision=Decision(0.7, 0.6)))
    assert uses([*log(1, 2), stricter])[q(1)] == Use(1, "earlier")


def test_an_empty_log_uses_nothing() -> None:
    assert uses([]) == {}
    assert needed([]) == {}
