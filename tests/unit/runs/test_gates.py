from dataclasses import replace

import pytest

from consumer.runs.answers import Answer
from consumer.runs.comparison import fold
from consumer.runs.gates import Gates, gates
from tests.unit.runs.synthetic import STARTED, answer, tags

OPEN = Gates(min_photos=0, max_level_jumps=1, max_brands_lost=1, max_mean_shift=1, max_not_judged=1)

SAME = answer(tags(0.5, {"A": 0.9}), tags(0.5, {"A": 0.9}))
JUMP = answer(tags(0.3), tags(0.8))
ONE_LEVEL = answer(tags(0.3), tags(0.5))
LOSES_ALL = answer(tags(0.5, {"A": 0.9}), tags(0.5, {"A": 0.1}))
OTHER_BRAND = answer(tags(0.5, {"A": 0.9}), tags(0.5, {"B": 0.9}))
UP, DOWN = answer(tags(0.5), tags(0.6)), answer(tags(0.5), tags(0.4))
GONE = answer(tags(0.5))


def found(limits: Gates, *answers: Answer) -> list[str]:
    return [f"{each.gate}: {each}" for each in gates(fold(answers, STARTED), limits)]


@pytest.mark.parametrize(
    ("limits", "holds", "fails", "text"),
    [
        (
            replace(OPEN, min_photos=2),
            [SAME, SAME],
            [SAME, GONE],
            "min_photos: 1 photos are compared; at least 2 must be",
        ),
        (
            replace(OPEN, max_level_jumps=0.29),
            [JUMP] * 29 + [SAME, ONE_LEVEL] * 35 + [SAME],
            [JUMP] * 30 + [SAME] * 70,
            "max_level_jumps: 30 of 100 photos change their level by 2 or more (30 %); at most 29 % may",
        ),
        (
            replace(OPEN, max_brands_lost=0.5),
            [LOSES_ALL, SAME, OTHER_BRAND],
            [LOSES_ALL, LOSES_ALL, SAME, UP, UP, UP],
            "max_brands_lost: 2 of 3 photos with brands lose all of them (66.7 %); at most 50 % may",
        ),
        (
            replace(OPEN, max_mean_shift=0.05),
            [DOWN, SAME],
            [DOWN],
            "max_mean_shift: the mean quality score moves by -0.1; at most 0.05, up or down, is allowed",
        ),
        (
            replace(OPEN, max_mean_shift=0.05),
            [UP, SAME],
            [UP],
            "max_mean_shift: the mean quality score moves by +0.1; at most 0.05, up or down, is allowed",
        ),
        (
            replace(OPEN, max_not_judged=0.5),
            [GONE, SAME],
            [GONE, GONE, SAME],
            "max_not_judged: 2 of 3 photos could not be judged (66.7 %); at most 50 % may",
        ),
    ],
)
def test_a_gate_holds_up_to_its_limit(limits: Gates, holds: list[Answer], fails: list[Answer], text: str) -> None:
    assert found(limits, *holds) == []
    assert found(limits, *fails) == [text]


def test_of_no_photos_only_their_number_is_wrong() -> None:
    assert found(Gates()) == ["min_photos: 0 photos are compared; at least 1,000 must be"]


def test_every_gate_that_does_not_hold_is_told() -> None:
    assert [line.partition(":")[0] for line in found(Gates(), JUMP, LOSES_ALL, GONE)] == list(Gates.__slots__)
