import json
from dataclasses import replace
from typing import Any

import pytest

from consumer import releases
from consumer.events import Brand, Deletion, Quality, Source
from consumer.releases import Numbered
from consumer.runs import definition
from consumer.runs.definition import Run, Selection, Span
from tests.fakes import CONTRACT, MOMENT, tags

RELEASE = releases.release_of(CONTRACT, reason="why", by="who", at=MOMENT)
RUN = Run(
    run_id="night",
    kind="rescore",
    candidate=RELEASE,
    base_number=3,
    base=RELEASE,
    topic="photo-uploads",
    spans=(Span(0, 5, 9), Span(1, 7, 7)),
    since=MOMENT,
    until=None,
    selection=Selection(("a",), ("crimson",), (4,)),
    rate=5.0,
    by="who",
    at=MOMENT,
    reason="why",
)
DELETED = Deletion("photo-1", "0000000000001.999999.9999999999999", Source("photo-uploads", 0, 1), MOMENT)


def test_a_run_is_what_it_was() -> None:
    assert definition.decode(definition.encode(RUN)) == RUN
    assert (RUN.total, RUN.follows, RUN.group("live")) == (4, False, "live.run.night")
    assert replace(RUN, spans=(Span(0, 5, None),)).follows


def test_a_run_knows_its_releases_from_those_of_an_earlier_run_of_its_name() -> None:
    def release(number: int, run: str | None) -> Numbered:
        return Numbered(number, replace(RELEASE, run=run))

    earlier = [release(2, "night"), release(3, "night:rollback")]
    assert RUN.promotion_in(earlier) is RUN.rollback_in(earlier) is None
    chain = [*earlier, release(4, "night"), release(5, "other"), release(6, "night:rollback")]
    assert (RUN.promotion_in(chain), RUN.rollback_in(chain)) == (chain[2], chain[4])
    # One that another operator appended first may not name it.
    assert replace(RUN, promoted=5).promotion_in(chain[:4]) == chain[3]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"run_id": "../x"}, "run_id"),
        ({"run_id": "A"}, "run_id"),
        ({"kind": "other"}, "kind"),
        ({"spans": [{"partition": -1, "start": 0, "stop": 1}]}, "partition"),
        ({"rate": 0}, "rate"),
        ({"state": "lost"}, "state"),
        ({"candidate": {}}, "candidate"),
    ],
)
def test_what_is_no_run_is_refused_by_the_name_of_the_field(change: dict[str, Any], field: str) -> None:
    value = json.dumps({**json.loads(definition.encode(RUN)), **change}).encode()
    with pytest.raises(ValueError, match=field):
        definition.decode(value)


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(), True),
        (Selection(brands=("crimson",)), True),
        (Selection(brands=("azure", "crimson")), True),
        (Selection(brands=("azure",)), False),
        (Selection(levels=(4,)), True),
        (Selection(levels=(1, 2)), False),
        (Selection(brands=("crimson",), levels=(1,)), False),
    ],
)
def test_photos_are_chosen_by_what_their_tags_say_now(selection: Selection, wanted: bool) -> None:
    shown = tags(quality=Quality(0.75, 4, good=True), brands=(Brand("crimson", 0.9),))
    assert selection.wants(shown) is wanted
    # Without tags there is no brand and no level.
    nothing = not selection.brands and not selection.levels
    assert selection.wants(None) is selection.wants(DELETED) is nothing


def test_photos_are_chosen_by_their_id() -> None:
    assert Selection().wants_id("any", ())
    chosen = Selection(ids=("a", "b"))
    assert [chosen.wants_id(each, frozenset(chosen.ids)) for each in ("a", "c")] == [True, False]


def test_a_selection_is_told_in_words() -> None:
    assert str(Selection()) == ""
    assert str(Selection(("a", "b"), ("crimson",), (1, 2))) == "2 ids; brand crimson; level 1, 2"


@pytest.mark.parametrize("text", ["", "-a", "A", "a b", "a/b", "a.b", "a" * 41, "ü"])
def test_an_id_that_no_topic_can_have_is_none(text: str) -> None:
    assert not definition.is_run_id(text)
