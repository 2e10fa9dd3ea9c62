"""One path below the root folder of `file:` URIs: opens and reads it without leaving the folder. Calls for a thread."""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yarl import URL

from consumer.errors import PhotoHostDown, PhotoRejected, Retryable
from consumer.fetch.attempt import Attempt, NotFound, own_limit
from consumer.fetch.urls import MAX_SHOWN, origin

# Not blocking: opening a named pipe would wait for its writer.
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
# O_PATH needs no right to list the folder; only Linux has it.
_TOP: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER: Final = _TOP | os.O_NOFOLLOW

#: Opens a file below a folder, given its path's parts, as `open_below` does.
OpenFile = Callable[[str, Sequence[str]], int]
ROOT: Final = origin(URL("file:///"))
#: Parts of a path that are no names.
_INDIRECT: Final = frozenset({"", ".", ".."})

_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
#: Failures that are about this path or this file; any other is of the file system.
_OF_THE_FILE: Final = frozenset(
    {
        *_ABSENT,
        *(errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO),
        *(errno.EINVAL, errno.EILSEQ, errno.EFBIG, errno.EOVERFLOW),
    }
)
#: Somebody else has the file for a moment, a writer perhaps.
_BUSY: Final = frozenset({errno.EAGAIN, errno.EBUSY, errno.ETXTBSY})
#: Up to this size, a file is read as soon as it is opened: nearly every photo, for another call in a thread costs much.
_SMALL: Final = 2 * 1024 * 1024


def open_below(root: str, parts: Sequence[str]) -> int:
    """A handle of the file at `parts` below a folder, opened without following any link below it.

    A link might point outside the folder: one that was looked at may have been changed since.

    Raises:
        OSError: one of the parts cannot be opened, or has become a link.
    """
    folder = os.open(root, _TOP)
    try:
        for part in parts[:-1]:
            below = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(parts[-1] if parts else ".", _FILE, dir_fd=folder)
    finally:
        os.close(folder)


@dataclass(slots=True)
class Reservation:
    """The room for a small file, which is taken once a thread is free for it."""

    attempt: Attempt
    size: int = 0

    def reserve(self) -> None:
        """Takes it, if it is free."""
        self.size = self.attempt.reserve(_SMALL)

    def give_back(self) -> None:
        """Returns it, if it was taken; the room that an attempt waited for stays."""
        if self.size:
            self.attempt.unreserve()


@dataclass(frozen=True, slots=True)
class Below:
    """A path that should be below a folder, for calls in a thread; `served`: the folder has had photos before."""

    root: Path
    path: str
    #: Its mount, or its folder below the root, as a host of its own.
    origin: str
    served: bool
    open_file: OpenFile

    @property
    def shown(self) -> str:
        """The path for messages."""
        return legible(self.path)[:MAX_SHOWN]

    def look(self, room: Reservation) -> bytes | int:
        """The bytes of the file, if there is room for them, else its size; raises as `Files.read`."""
        with self._opened() as (handle, size):
            return self._read(handle, size) if size <= room.size else size

    def body(self, announced: int) -> bytes:
        """The bytes of the file, which has the announced size.

        Raises:
            Retryable: `short_body`, it has not, or as `Files.read`, as all else.
        """
        with self._opened() as (handle, size):
            if size != announced:
                raise Retryable("short_body", f"{self.shown}: {size} bytes, {announced} a moment ago")
            return self._read(handle, size)

    def _read(self, handle: int, size: int) -> bytes:
        # Not through a file object, which asks for its size and place first: each call gives up the interpreter.
        body = os.read(handle, size)
        while len(body) < size and (more := os.read(handle, size - len(body))):
            body += more
        if len(body) < size:
            raise Retryable("short_body", f"{self.shown}: {len(body)} of {size} bytes")
        return body

    @contextmanager
    def _opened(self) -> Iterator[tuple[int, int]]:
        """Opens the file, and closes it at the end.

        Yields:
            Its handle and its size.

        Raises:
            PhotoRejected: `url_not_allowed`, it is no regular file, or as `Files.read`, as all else.
        """
        try:
            handle = self._handle()
        except OSError as error:
            raise self._why_not_opened(error) from None
        try:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                raise PhotoRejected("url_not_allowed", f"{self.shown} is not a regular file")
            yield handle, facts.st_size
        except OSError as error:
            raise self.failure(error) from None
        finally:
            os.close(handle)

    def _handle(self) -> int:
        """A handle of the file.

        Raises:
            PhotoRejected: `url_not_allowed`.
            OSError: it cannot be opened.
        """
        top = str(self.root).rstrip("/") + "/"
        parts = self.path.removeprefix(top).split("/")
        # A path without links is allowed as it stands. Only what cannot be opened so has to be resolved.
        if self.path.startswith(top) and not _INDIRECT.intersection(parts):
            with suppress(OSError):
                return self.open_file(top, parts)
        top, real = self._allowed()
        return self.open_file(top, Path(real).relative_to(top).parts)

    def _allowed(self) -> tuple[str, str]:
        """The real path of the root folder, and of what the URL names below it.

        Raises:
            PhotoRejected: `url_not_allowed`.
            OSError: the root, or what is above the file, cannot be looked at.
        """
        top = os.path.realpath(self.root, strict=True)
        try:
            real = os.path.realpath(self.path, strict=True)
        except OSError as error:
            if error.errno not in _OF_THE_FILE:
                raise
            real = os.path.realpath(self.path)
        if not Path(real).is_relative_to(top):
            raise PhotoRejected("url_not_allowed", f"{self.shown} is not below the root folder for file: URIs")
        return top, real

    def _why_not_opened(self, error: OSError) -> PhotoRejected | NotFound | Retryable | PhotoHostDown:
        """What a failure to open the file means: it may be the file's, the file system's, or this machine's."""
        failure = self.failure(error)
        if isinstance(failure, PhotoHostDown):
            return failure
        if gone := self._lost_root():
            return Retryable("connect_failed", f"the root folder for file: URIs {gone}", origin=ROOT)
        if error.errno in _ABSENT:
            return NotFound(f"no such file: {self.shown}")
        if error.errno in _OF_THE_FILE:
            return PhotoRejected("http_4xx", f"cannot open {self.shown}: {error.strerror}")
        return failure

    def failure(self, error: OSError) -> Retryable | PhotoHostDown:
        """What any failure means that is not about the path."""
        if own := own_limit(error):
            return own
        if error.errno in _BUSY:
            return Retryable("http_5xx", f"{self.shown} is in use: {error.strerror}")
        return Retryable("http_5xx", f"the file system fails on {self.shown}: {error.strerror}", origin=self.origin)

    def _lost_root(self) -> str | None:
        """Why nothing below the root can be read; None where something can.

        A folder that was not empty and is empty now is what a lost network mount leaves behind.
        """
        try:
            with os.scandir(self.root) as entries:
                lost = self.served and next(entries, None) is None
                return "is empty now: is its file system mounted?" if lost else None
        except PermissionError:
            return None if os.access(self.root, os.X_OK) else "may not be entered"
        except OSError as error:
            return f"cannot be read: {error.strerror}"


def legible(path: str) -> str:
    """The path for people, with bytes that are not UTF-8 as escapes."""
    return path.encode(errors="backslashreplace").decode()
