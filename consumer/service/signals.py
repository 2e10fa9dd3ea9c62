"""Signals that ask the service, or a job, to drain and stop."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

#: SIGHUP comes when the terminal closes. SIGQUIT stays the way to end at once.
_STOP: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """While the context lasts, SIGTERM, SIGINT and SIGHUP call `stop`; one that is ignored, as under nohup, stays so.

    Then they do again what they did before.

    Yields:
        Nothing.
    """
    loop = asyncio.get_running_loop()
    before = {number: handler for number in _STOP if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


@contextmanager
def noted_stop_signals() -> Iterator[Callable[[], bool]]:
    """As `stop_on_signals`, for the main thread of a job without an event loop, which looks whether to stop.

    Yields:
        Whether one of the signals came.
    """
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in _STOP}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, lambda which, _: came.append(which))
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_stop_signals() -> None:
    """For a process that has drained and is about to end: asked once more, it must not end as if it had been killed."""
    for number in _STOP:
        signal.signal(number, signal.SIG_IGN)
