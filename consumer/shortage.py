"""Want of a resource of this host: memory, file descriptors, threads, buffers of the network."""

import errno
import random
from dataclasses import dataclass
from typing import Final

_SHORTAGE_WAIT_S: Final = 0.5
_SHORTAGE_WAIT_MAX_S: Final = 8.0
#: With these waits, some 12 s.
_SHORTAGE_FAILURES: Final = 6

#: A resource of this host, not of the photo: memory, file descriptors, buffers of the network.
_EXHAUSTED: Final = frozenset({errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE})
_NO_THREAD: Final = "can't start new thread"


@dataclass(slots=True)
class HostResources:
    """Whether this host has enough for photos at all: how many it had enough for. One for a process."""

    served: int = 0


@dataclass(slots=True)
class Shortage:
    """The failures of one record, in a row, for want of something that this host had no more of.

    They are the host's fault, unless others are served meanwhile: then it is the photo that needs too much.
    """

    _resources: HostResources
    failures: int = 0
    #: The last of them.
    detail: str = ""
    _served_before: int = 0

    def note(self, detail: str) -> None:
        """Counts a failure."""
        if self.failures == 0:
            self._served_before = self._resources.served
        self.failures += 1
        self.detail = detail

    @property
    def wait_s(self) -> float:
        """How long to wait, with jitter: the photos in flight must not return at once."""
        wait_s = min(_SHORTAGE_WAIT_S * 2.0 ** (self.failures - 1), _SHORTAGE_WAIT_MAX_S)
        return wait_s * (0.5 + random.random() / 2)  # noqa: S311 - jitter is not cryptography

    @property
    def lasts(self) -> bool:
        """Whether the record has waited in place for long enough."""
        return self.failures >= _SHORTAGE_FAILURES

    @property
    def others_served(self) -> bool:
        """Whether other photos were served since its first failure."""
        return self._resources.served > self._served_before


def is_shortage(failure: BaseException | None) -> bool:
    """Whether a failure, or what it came from, is that this host had no memory, thread or file descriptor left."""
    while failure is not None:
        if isinstance(failure, MemoryError) or (isinstance(failure, OSError) and failure.errno in _EXHAUSTED):
            return True
        if isinstance(failure, RuntimeError) and _NO_THREAD in str(failure):
            return True
        failure = failure.__cause__ or failure.__context__
    return False
