import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import releases
from consumer.contract import Geometry
from consumer.errors import ContractMismatch
from consumer.events import Record
from consumer.releases import Decision, ModelVersion, Numbered, Release
from tests.fakes import CONTRACT, MOMENT

RELEASE = releases.release_of(CONTRACT, reason="why", by="who", at=MOMENT)

versions = st.builds(ModelVersion, st.just("photo_quality"), st.sampled_from(["1", "2"]))
logs = st.lists(st.builds(replace, st.just(RELEASE), quality=versions, reason=st.text(max_size=3)), max_size=8)


def record(value: bytes, offset: int = 0) -> Record:
    return Record("photo-releases", 0, offset, None, value)


def numbered(log: list[Release]) -> list[Numbered]:
    return [releases.decode(record(releases.encode(each), offset)) for offset, each in enumerate(log)]


def test_the_release_of_what_is_served_decides_as_its_models_were_published() -> None:
    assert releases.contract_under(RELEASE, CONTRACT) == CONTRACT
    assert RELEASE.models == CONTRACT.models


@given(logs)
def test_a_release_is_what_it_was_and_its_number_is_its_place(log: list[Release]) -> None:
    found = numbered(log)
    assert [each.release for each in found] == log
    assert [each.number for each in found] == list(range(1, len(log) + 1))


@given(logs)
def test_what_decides_nothing_new_does_not_come_into_force(log: list[Release]) -> None:
    chain = releases.in_force(numbered(log))
    assert all(one.release.decides != other.release.decides for one, other in itertools.pairwise(chain))
    assert bool(chain) == bool(log)
    if log:
        assert chain[-1].release.decides == log[-1].decides
    assert releases.in_force(chain) == chain
    assert releases.in_force([*chain, *chain]) == chain  # a log that is read again


def test_a_log_that_continues_another_numbers_on() -> None:
    later = replace(RELEASE, numbers_after=2_002)
    assert releases.decode(record(releases.encode(later), 4)).number == 2_007
    last = replace(RELEASE, numbers_after=releases.MAX_RELEASE - 1)
    assert releases.decode(record(releases.encode(last))).number == releases.MAX_RELEASE
    with pytest.raises(ValueError, match="beyond"):
        releases.decode(record(releases.encode(last), 1))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quality": ...}, "quality"),
        ({"quality": {"model": "photo_quality", "version": 3}}, "version"),
        ({"quality": {"model": "photo_quality", "version": "03"}}, "version"),
        ({"brand": {"model": "", "version": "7"}}, "model"),
        ({"decision": {"good_threshold": 1.5, "brand_threshold": 0.6}}, "good_threshold"),
        ({"decision": {"good_threshold": 0.5, "brand_threshold": float("nan")}}, "brand_threshold"),
        ({"label_checksum": "A" * 64}, "label_checksum"),
        ({"at": 1700000000}, "at"),
        ({"numbers_after": -1}, "numbers_after"),
        ({"reason": "x" * 1001}, "reason"),
    ],
)
def test_what_is_no_release_is_refused_by_the_name_of_the_field(change: dict[str, Any], field: str) -> None:
    fields = {**json.loads(releases.encode(RELEASE)), **change}
    kept = {name: value for name, value in fields.items() if value is not ...}
    with pytest.raises(ValueError, match=field):
        releases.decode(record(json.dumps(kept).encode()))


@pytest.mark.parametrize("value", [b"", b"\xff", b"[]", b"null", b"{" * 5000])
def test_any_other_value_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="field"):
        releases.decode(record(value))


def test_thresholds_are_the_releases() -> None:
    decided = replace(RELEASE, decision=Decision(0.25, 0.75))
    contract = releases.contract_under(decided, CONTRACT)
    assert contract == replace(CONTRACT, good_threshold=0.25, brand_threshold=0.75)


@pytest.mark.parametrize(
    ("served", "named"),
    [
        ({"brand_labels": ("azure", "crimson", "no_logo")}, "labels"),
        ({"quality_geometry": Geometry(48, 48)}, "photo_quality: input 48"),
        ({"brand_geometry": Geometry(32, 40)}, "brand_logo: input 32"),
        ({"brand_version": "8"}, "brand_logo: version 8"),
        ({"quality_model": "other"}, "other: version 3, not None"),
    ],
)
def test_what_triton_serves_must_be_what_the_release_was_made_for(served: dict[str, Any], named: str) -> None:
    with pytest.raises(ContractMismatch, match=named):
        releases.contract_under(RELEASE, replace(CONTRACT, **served))


def test_an_operator_is_told_what_changes() -> None:
    other = replace(RELEASE, quality=ModelVersion("photo_quality", "4"), decision=Decision(0.5, 0.7))
    assert releases.differences(RELEASE, other) == (
        "photo_quality 3 is now photo_quality 4; brand_threshold 0.6 is now 0.7"
    )
