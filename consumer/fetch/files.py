"""Photos from files below one folder: `file:` URIs.

Every call of the file system is made in a thread of the file's mount: a network mount that hangs takes the places of
its own photos alone. A small file is read by one call, in room that was taken for it before. A larger one is opened
once for its size and once more to be read, so that no handle passes from one thread to another, or is left behind where
a wait is cut short.
"""

import os
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from yarl import URL

from consumer.errors import PhotoRejected, Retryable
from consumer.fetch.attempt import Attempt, NotFound
from consumer.fetch.below import ROOT, Below, OpenFile, Reservation, legible, open_below
from consumer.fetch.lanes import Lanes, LaneStuck
from consumer.fetch.mounts import Mounts
from consumer.fetch.trail import Trail, trail
from consumer.fetch.urls import shown

_IN_EACH_MOUNT: Final = 8
_IN_ALL: Final = 64


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
        below = Below(self._root, path, f"{ROOT}{legible(lane)}", self._served, self._open_file)
        way = trail()
        # The root stands before its mounts and folders: it may be what has failed.
        await way.asks(below.origin, (ROOT,))
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

    async def _body(self, below: Below, lane: str, attempt: Attempt, way: Trail) -> bytes:
        attempt.asking = below.origin
        room = Reservation(attempt)
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
