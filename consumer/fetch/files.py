"""Photos from files below one folder: `file:` URIs.

Every call of the file system is made in a thread of the file's mount: a network mount that hangs takes the places of
its own photos alone. A small file is read by one call, in room that was taken for it before. A larger one is opened
once for its size and once more to be read, so that no handle passes from one thread to another, or is left behind where
a wait is cut short.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from yarl import URL

from consumer.errors import PhotoHostDown, PhotoRejected, Retryable
from consumer.fetch.attempt import Attempt, NotFound, own_limit
from consumer.fetch.lanes import Lanes, LaneStuck
from consumer.fetch.mounts import Mounts
from consumer.fetch.trail import Trail, trail
from consumer.fetch.urls import MAX_SHOWN, origin, shown

# Not blocking: opening a named pipe would wait for its writer.
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
# O_PATH needs no right to list the folder; only Linux has it.
_TOP: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER: Final = _TOP | os.O_NOFOLLOW

#: Opens a file below a folder, given its path's parts, as `open_below` does.
OpenFile = Callable[[str, Sequence[str]], int]
_ROOT: Final = origin(URL("file:///"))
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
_IN_EACH_MOUNT: Final = 8
_IN_ALL: Final = 64
#: Up to this size, a file is read as soon as it is opened: nearly every photo, for another call in a thread costs much.
_SMALL: Final = 2 * 1024 * 1024


class Files:
    """Reads files below `root`; a call that takes longer than `overdue_s` is overdue. For one event loop."""

    def __init__(self, root: Path | None, overdue_s: float, *, open_file: OpenFile | None = None) -> None:
        self._root = root
        self._open_file = open_file or open_below
        self._served = False
        self._mounts = Mounts()
        self._lanes = Lanes("file", in_each=_IN_EACH_MOUNT, in_all=_IN_ALL, overdue_s=overdue_s)

    async def read(self, url: URL, attempt: Attempt) -> bytes:
        """The bytes of a file; links are followed if they stay below the root. Passes on what `make_room` raises.

        Raises:
            PhotoRejected: `url_not_allowed`, `too_many_bytes`, or `http_4xx` for a file that may not be read.
            NotFound: there is no such file.
            Retryable: `short_body`, it changes or breaks off; `connect_failed`, the root is gone; `http_5xx` or
                `fetch_timeout`, the file system fails or hangs.
            PhotoHostDown: a limit of this process.
        """
        if self._root is None:
            raise PhotoRejected("url_not_allowed", "file: URIs need a root folder, which fetch.file_root sets")
        path = _path_of(url)
        lane = self._mounts.lane_of(path, str(self._root))
        below = _Below(self._root, path, f"{_ROOT}{_legible(lane)}", self._served, self._open_file)
        way = trail()
        # The root stands before its mounts and folders: it may be what has failed.
        await way.asks(below.origin, (_ROOT,))
        try:
            body = await self._body(below, lane, attempt, way)
        except (PhotoRejected, NotFound):
            way.answers()
            raise
        except LaneStuck as stuck:
            raise Retryable("fetch_timeout", f"{below.shown}: {stuck}", origin=below.origin) from None
        except OSError as error:
            raise below.failure(error) from None
        way.answers()
        self._served = True
        return body

    async def _body(self, below: "_Below", lane: str, attempt: Attempt, way: Trail) -> bytes:
        attempt.asking = below.origin
        room = _Room(attempt)
        found = await self._lanes.run(lane, partial(below.look, room), room.reserve)
        if isinstance(found, bytes):
            attempt.asking = None
            return found
        room.give_back()
        await way.pauses(found)
        await attempt.make_room(below.shown, found)
        way.reads()
        body = await self._lanes.run(lane, partial(below.body, found))
        attempt.asking = None
        return body


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
class _Room:
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
class _Below:
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
        return _legible(self.path)[:MAX_SHOWN]

    def look(self, room: _Room) -> bytes | int:
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
            return Retryable("connect_failed", f"the root folder for file: URIs {gone}", origin=_ROOT)
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


def _path_of(url: URL) -> str:
    """The path of a file, as the functions of `os` take it: names need not be UTF-8.

    Raises:
        PhotoRejected: `url_not_allowed`.
    """
    path = os.fsdecode(unquote_to_bytes(url.raw_path))
    if "\0" in path:
        raise PhotoRejected("url_not_allowed", f"{shown(url)}: no name holds a zero byte")
    if url.raw_authority.lower() not in {"", "localhost"} or not path.startswith("/"):
        raise PhotoRejected("url_not_allowed", f"{shown(url)}: a file: URI is file:///path, without a host")
    # To find the real path drops them, and would lead to a file in place of a folder.
    if path.rpartition("/")[2] in {"", ".", ".."}:
        raise PhotoRejected("url_not_allowed", f"{shown(url)} names a folder")
    return path


def _legible(path: str) -> str:
    """The path for people, with bytes that are not UTF-8 as escapes."""
    return path.encode(errors="backslashreplace").decode()
