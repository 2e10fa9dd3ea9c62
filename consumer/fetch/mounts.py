"""Which mount a path lies on, by its text alone: a look at the path itself would hang where its mount hangs."""

import os
import re
from pathlib import Path
from time import monotonic
from typing import Final

_TABLE: Final = Path("/proc/self/mountinfo")
#: The table changes rarely; reading it costs 0.1 ms.
_KEPT_S: Final = 5.0
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
#: The mount point among the fields of a line.
_POINT: Final = 4


class Mounts:
    """The mount points of this system; none where it is not Linux."""

    def __init__(self, table: Path = _TABLE) -> None:
        self._table = table
        self._points: frozenset[str] = frozenset()
        self._read_s: float | None = None

    def lane_of(self, path: str, root: str) -> str:
        """The mount below `root` that a path lies on; where it is on that of the root, its first folder below it.

        Links are not followed: what one leads to counts as on the mount of the link.
        """
        # Texts, not Path objects, which cost ten times as much: this is done for each photo.
        path, root = os.path.normpath(path), os.path.normpath(root)
        top = root.rstrip("/") + "/"
        if path != root and not path.startswith(top):
            return "outside"
        points, folder, first = self._now(), path.rpartition("/")[0], root
        while folder.startswith(top) and folder != top:
            if folder in points:
                return folder
            folder, first = folder.rpartition("/")[0], folder
        return first

    def _now(self) -> frozenset[str]:
        if self._read_s is None or monotonic() - self._read_s > _KEPT_S:
            self._read_s = monotonic()
            self._points = _points(self._table)
        return self._points


def _points(table: Path) -> frozenset[str]:
    try:
        lines = table.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return frozenset()
    fields = (line.split(" ") for line in lines)
    return frozenset(
        _ESCAPE.sub(lambda code: chr(int(code[1], 8)), parts[_POINT]) for parts in fields if len(parts) > _POINT
    )
