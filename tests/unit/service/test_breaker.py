from hypothesis import given
from hypothesis import strategies as st

from consumer.service.breaker import Breaker, BreakerLimits

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
        assert probing <= LIMITS.probes
        if passes and ends:
            breaker.note(passes.pop(), dead=dead, now_s=now_s)
    for pass_ in passes:
        breaker.note(pass_, dead=False, now_s=now_s)
    assert breaker.admit(now_s + LIMITS.cool_down_s) is not None
