"""What a fetch tells of its way while it is on it: which origin it asks now, through what, and which have answered.

A photo may lie behind a redirect, an egress proxy or the endpoint of a store, and each of them can be down by itself.
The edges of the fetch report here; whoever starts a fetch may follow it (`following`), and nobody has to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final


class Trail:
    """The way of one attempt; this one only notes it.

    `through` names what stands before the origin that is asked, and cannot be told from it until something answers.
    """

    def __init__(self) -> None:
        #: In the order of their answers, each with what stands before it.
        self.answered: list[str] = []
        self.ways: dict[str, tuple[str, ...]] = {}
        self.asking: str | None = None
        self.through: tuple[str, ...] = ()
        #: A connection was made: a failure after that may be due to the photo.
        self.reached = False

    async def asks(self, origin: str, through: tuple[str, ...] = ()) -> None:
        """A request to this origin is next; a follower may hold it back for a moment, or refuse it."""
        self.asking, self.through, self.reached = origin, through, False
        self.ways[origin] = through

    def relayed(self) -> None:
        """What stands before the origin passed its answer on."""
        self.answered += self.through
        self.through = ()

    def breaks(self) -> None:
        """The connection failed in the middle of an answer, which what stands before the origin may have caused."""
        self.through = self.ways.get(self.asking or "", ())

    def answers(self) -> None:
        """The origin answered with a redirect, a refusal or a whole photo."""
        self.relayed()
        if self.asking is not None:
            self.answered.append(self.asking)

    async def pauses(self, size: int) -> None:
        """The answer has begun, and the fetch waits for so many bytes of room; a follower may refuse it."""

    def reads(self) -> None:
        """The fetch reads the photo after `pauses`."""

    def suspects(self, origin: str) -> tuple[str, ...]:
        """The origin of a failure, and before it what may be the cause instead."""
        return (*self.through, origin) if origin == self.asking else (origin,)


_TRAIL: Final[ContextVar[Trail | None]] = ContextVar("trail", default=None)


def trail() -> Trail:
    """The trail of the fetch in progress; one that nobody reads where nobody follows."""
    return _TRAIL.get() or Trail()


@contextmanager
def following(new: Trail) -> Iterator[None]:
    """The fetch inside reports to this trail."""
    token = _TRAIL.set(new)
    try:
        yield
    finally:
        _TRAIL.reset(token)
