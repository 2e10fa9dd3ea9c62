"""What signals do while a job takes them for itself, and afterwards."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from consumer.service.signals import stop_on_signals

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def handled_by(handler: object) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in NUMBERS}  # type: ignore[call-overload]
    try:
        yield
    finally:
        for number, each in before.items():
            signal.signal(number, each)


@pytest.mark.parametrize("number", NUMBERS)
async def test_a_signal_stops_the_job_and_afterwards_does_what_it_did_before(number: signal.Signals) -> None:
    stops: list[str] = []
    others: list[int] = []

    def other(which: int, _: FrameType | None) -> None:
        others.append(which)

    with handled_by(other):
        with stop_on_signals(lambda: stops.append("stop")):
            assert signal.getsignal(number) is not other
        assert signal.getsignal(number) is other  # else the next line would end the tests
        os.kill(os.getpid(), number)
        assert others == [number]
    assert stops == []


async def test_an_ignored_signal_stays_ignored() -> None:
    with handled_by(signal.SIG_IGN), stop_on_signals(lambda: None):
        assert {signal.getsignal(number) for number in NUMBERS} == {signal.SIG_IGN}
