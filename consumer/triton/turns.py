"""Turns at Triton for a job that leaves it to live photos: while these come, it asks for one photo and then rests."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar

T = TypeVar("T")

#: A photo in work delays a live one by as much as it takes, so few live photos may find one: one in about so many.
_RESTS: Final = 5
#: Triton may be away, or slow for another reason.
_LONGEST_REST_S: Final = 2.0


class Turns:
    """Photos one by one, with rests between them, while `yielding` says so; else as many as come. For one loop."""

    def __init__(self, yielding: Callable[[], bool]) -> None:
        self.yielding = yielding
        self._one = asyncio.Lock()
        self._next_s = 0.0

    async def taken(self, judge: Callable[[], Awaitable[T]]) -> T:
        """Judges a photo when it is its turn."""
        if not self.yielding():
            return await judge()
        async with self._one:
            if self.yielding():
                await asyncio.sleep(self._next_s - monotonic())
            began_s = monotonic()
            try:
                return await judge()
            finally:
                now_s = monotonic()
                self._next_s = now_s + min(_RESTS * (now_s - began_s), _LONGEST_REST_S)
