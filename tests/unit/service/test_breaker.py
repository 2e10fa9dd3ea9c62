from math import ceil, log2
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import Reason
from consumer.service.breaker import Breaker, BreakerLimits, evidence
from consumer.telemetry import Outcome

LIMITS = BreakerLimits(0.5, cool_down_s=30.0, least=10, window_s=60.0, probes=3)


def run(breaker: Breaker, *dead: bool | None, now_s: float = 0.0) -> None:
    for each in dead:
        pass_ = breaker.admit(now_s)
        assert pass_ is not None
        breaker.note(pass_, dead=each, now_s=now_s)


def opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker(LIMITS)
    run(breaker, *[True] * LIMITS.least, now_s=now_s)
    return breaker


def test_it_opens_at_the_limit_and_not_before_the_least_number_of_outcomes() -> None:
    breaker = Breaker(LIMITS)
    run(breaker, *[True] * (LIMITS.least - 1))
    assert breaker.state == "closed"
    run(breaker, False)
    assert breaker.state == "open"
    assert breaker.seen == (9, 10)
    assert breaker.admit(0.0) is None


def test_a_few_bad_photos_among_good_ones_do_not_open_it() -> None:
    breaker = Breaker(LIMITS)
    run(breaker, *[False] * 6, *[True, False] * 20)
    assert breaker.state == "closed"


def test_what_is_older_than_the_window_does_not_count() -> None:
    breaker = Breaker(LIMITS)
    run(breaker, *[True] * 9)
    run(breaker, True, now_s=LIMITS.window_s + 0.1)
    assert breaker.state == "closed"


def test_records_that_wait_for_a_retry_say_nothing() -> None:
    breaker = Breaker(LIMITS)
    run(breaker, *[None] * 100, *[True] * 9)
    assert breaker.state == "closed"


def test_after_the_cool_down_a_few_pass_and_one_good_one_closes_it() -> None:
    breaker = opened()
    assert breaker.admit(29.9) is None
    passes = [breaker.admit(30.0) for _ in range(LIMITS.probes)]
    assert None not in passes
    assert breaker.admit(30.0) is None
    breaker.note(passes[0] or 0, dead=True, now_s=31.0)
    assert breaker.state == "half_open"
    breaker.note(passes[1] or 0, dead=False, now_s=31.0)
    assert breaker.state == "closed"


def test_it_opens_again_when_all_of_the_few_are_dead_letters() -> None:
    breaker = opened()
    run(breaker, *[True] * LIMITS.probes, now_s=30.0)
    assert breaker.state == "open"
    assert breaker.admit(59.9) is None
    assert breaker.admit(60.0) is not None


@pytest.mark.parametrize("probed", [1, 2])
def test_fewer_records_than_it_may_probe_lead_to_a_decision(probed: int) -> None:
    breaker = opened()
    run(breaker, *[True] * probed, now_s=30.0)
    assert breaker.state == "half_open"
    breaker.tick(30.0 + LIMITS.settle_s)
    assert breaker.state == "open"
    breaker.tick(60.0 + LIMITS.settle_s)
    assert breaker.state == "half_open"


def test_no_records_at_all_are_no_reason_to_stay_open() -> None:
    breaker = opened()
    breaker.tick(30.0)
    breaker.tick(30.0 + LIMITS.window_s)
    assert breaker.state == "closed"


@pytest.mark.parametrize(("dead", "then"), [(0, "closed"), (1, "open")])
def test_a_probe_that_never_ends_is_not_waited_for_beyond_the_window(dead: int, then: str) -> None:
    breaker = opened()
    assert breaker.admit(30.0) is not None
    run(breaker, *[True] * dead, now_s=30.0)
    breaker.tick(30.0 + LIMITS.window_s - 0.1)
    assert breaker.state == "half_open"
    breaker.tick(30.0 + LIMITS.window_s)
    assert breaker.state == then


def test_a_probe_that_says_nothing_gives_its_place_back() -> None:
    breaker = opened()
    run(breaker, *[None] * 50, now_s=30.0)
    assert breaker.state == "half_open"


def test_what_was_under_way_before_it_opened_says_nothing_about_the_present() -> None:
    breaker = Breaker(LIMITS)
    early = breaker.admit(0.0)
    assert early is not None
    run(breaker, *[True] * LIMITS.least)
    assert breaker.admit(30.0) is not None
    breaker.note(early, dead=False, now_s=30.0)
    assert breaker.state == "half_open"


@given(st.lists(st.booleans(), max_size=100))
def test_a_limit_of_0_never_opens_it(outcomes: list[bool]) -> None:
    breaker = Breaker(BreakerLimits(0.0, 30.0, least=1))
    run(breaker, *outcomes)
    assert breaker.state == "closed"


def test_a_dead_letter_is_evidence_unless_the_sender_is_at_fault_and_a_judged_photo_is_of_the_contrary() -> None:
    said = {outcome: evidence(outcome, None) for outcome in get_args(Outcome)}
    assert {outcome for outcome, dead in said.items() if dead is True} == {"dead_lettered"}
    assert {outcome for outcome, dead in said.items() if dead is False} == {"tagged", "unchanged"}
    reasons = {reason for part in get_args(Reason) for reason in (get_args(part) or (part,))}
    assert {reason for reason in reasons if evidence("dead_lettered", reason) is None} == {
        "invalid_event",
        "url_not_allowed",
        "too_many_bytes",
        "too_many_pixels",
        "too_many_scans",
    }
    assert evidence(None, None) is None


@given(st.integers(1, 20), st.integers(1, 100), st.integers(0, 500))
def test_a_good_photo_behind_bad_ones_is_admitted_within_the_stated_number_of_cool_downs(
    probes: int, least: int, bad: int
) -> None:
    limits = BreakerLimits(0.5, cool_down_s=30.0, least=least, probes=probes)
    breaker, now_s, cool_downs, admitted = Breaker(limits), 0.0, 0, 0
    while admitted <= bad:
        pass_ = breaker.admit(now_s)
        if pass_ is None:
            cool_downs += 1
            now_s += limits.cool_down_s
            continue
        breaker.note(pass_, dead=admitted < bad, now_s=now_s)
        admitted += 1
    held = max(0, bad + 1 - least)
    assert cool_downs <= ceil(log2(held / probes + 1)) + held // max(least, probes) + 1


def test_at_the_defaults_400_bad_photos_hold_a_good_one_back_for_six_cool_downs() -> None:
    limits = BreakerLimits(0.5, cool_down_s=30.0, least=200)
    breaker, now_s = Breaker(limits), 0.0
    for number in range(401):
        while (pass_ := breaker.admit(now_s)) is None:
            now_s += 1.0
        breaker.note(pass_, dead=number < 400, now_s=now_s)
    assert breaker.state == "closed"
    assert now_s == 6 * limits.cool_down_s


@given(st.integers(1, 20), st.integers(1, 300), st.integers(1, 40))
def test_a_broken_model_costs_no_more_dead_letters_than_the_limit_in_a_cool_down(
    probes: int, least: int, cool_downs: int
) -> None:
    limits = BreakerLimits(0.5, cool_down_s=30.0, least=least, probes=probes)
    breaker = Breaker(limits)
    for number in range(cool_downs):
        passed = 0
        while (pass_ := breaker.admit(number * limits.cool_down_s)) is not None:
            breaker.note(pass_, dead=True, now_s=number * limits.cool_down_s)
            passed += 1
        assert breaker.state == "open"
        assert passed <= max(least, probes)


Step = st.tuples(st.floats(0.0, 20.0), st.sampled_from([True, False, None]), st.booleans())


@given(st.lists(Step, max_size=150))
def test_in_any_history_it_lets_nothing_pass_while_open_and_few_while_half_open_and_never_gets_stuck(
    steps: list[tuple[float, bool | None, bool]],
) -> None:
    breaker, now_s = Breaker(LIMITS), 0.0
    passes: list[int] = []
    for waited_s, dead, ends in steps:
        now_s += waited_s
        pass_ = breaker.admit(now_s)
        assert (pass_ is None) or breaker.state != "open"
        passes += [] if pass_ is None else [pass_]
        probing = passes.count(pass_) if pass_ is not None and breaker.state == "half_open" else 0
        assert probing <= LIMITS.least
        if passes and ends:
            breaker.note(passes.pop(), dead=dead, now_s=now_s)
    for pass_ in passes:
        breaker.note(pass_, dead=False, now_s=now_s)
    assert breaker.admit(now_s + LIMITS.cool_down_s) is not None
