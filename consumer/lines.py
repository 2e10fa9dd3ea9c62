"""Lines to an output that may stop taking them: a pipe whose reader hangs, a terminal that is held."""

import os
import select
import threading
from io import UnsupportedOperation
from time import monotonic
from typing import Final, TextIO

#: A reader that is slow for a moment loses no line; one that hangs holds up the process for so long, once.
_PATIENCE_S: Final = 0.5


class UnblockingLines:
    """A text stream for a logger whose writes never wait for long: what is not taken in time is dropped.

    Once the output was waited for in vain, nothing waits until it takes something again.
    """

    def __init__(self, stream: TextIO, patience_s: float = _PATIENCE_S) -> None:
        self._stream = stream
        self._patience_s = patience_s
        self._hangs = False
        #: Held while a text is written: texts of several threads stay whole, and a poll is for one at a time.
        self._writing = threading.Lock()
        self._poll = select.poll()
        self._descriptor = _descriptor_of(stream)
        if self._descriptor is not None:
            self._poll.register(self._descriptor, select.POLLOUT)

    def write(self, text: str) -> None:
        """Writes a text; at once, if it is a line that a pipe takes at once.

        Raises:
            BlockingIOError: the output does not take it in time, or not all of it. Other failures come as they are.
        """
        if self._descriptor is None:
            self._stream.write(text)
            return
        left = text.encode(self._stream.encoding, "backslashreplace")
        with self._writing:
            deadline_s = monotonic() + (0.0 if self._hangs else self._patience_s)
            while left:
                self._hangs = not self._poll.poll(max(0.0, deadline_s - monotonic()) * 1000)
                if self._hangs:
                    raise BlockingIOError("the output takes nothing")
                left = left[os.write(self._descriptor, left[: select.PIPE_BUF]) :]

    def flush(self) -> None:
        """Hands over what is buffered."""
        self._stream.flush()


def _descriptor_of(stream: TextIO) -> int | None:
    """The file descriptor of a stream; None where it has none, as in memory."""
    try:
        return stream.fileno()
    except (UnsupportedOperation, ValueError):
        return None
