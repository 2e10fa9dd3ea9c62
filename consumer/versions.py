"""Versions: the order of all writes about one photo, as fixed-width text that is compared as text.

`content_rev(13).release(6).run_seq(13)`, all decimal digits. Text, because Lua's numbers are exact up to 2^53 only.
The content decides before the release, the release before the run. A release is named by its number: one that goes back
to older models has a higher number, and wins.
"""

from typing import Final

from consumer.events import EARLIEST, MAX_REVISION, PhotoDeleted, PhotoUploaded, milliseconds

#: The run of live records and of replays: a duplicate has the same version, and so changes nothing.
LIVE_RUN: Final = 0

#: Above every release.
_DELETED: Final = 999_999


def version_of(event: PhotoUploaded, release: int, run: int = LIVE_RUN) -> str:
    """The version of an upload's tags under a release, by its number."""
    return _format(content_revision(event.revision, milliseconds(event.uploaded_at)), release, run)


def release_in(version: str) -> int | None:
    """The number of the release that tags were decided under; None for a deletion."""
    release = int(version.split(".")[1])
    return None if release == _DELETED else release


def content_in(version: str) -> int:
    """The content that a version is of, as `content_revision`."""
    return int(version.partition(".")[0])


def under(version: str, release: int) -> str:
    """The version of the same content under another release."""
    return _format(content_in(version), release, LIVE_RUN)


def tombstone_of(event: PhotoDeleted) -> str:
    """The version of a deletion: above every rescoring of the contents that it deletes, below the next upload's."""
    return _format(content_revision(event.revision, milliseconds(event.deleted_at)), _DELETED, MAX_REVISION)


def above_rescorings(version: str) -> str:
    """The version of a deletion of the content that a version is of."""
    return _format(content_in(version), _DELETED, MAX_REVISION)


def content_revision(revision: int | None, time_ms: int) -> int:
    """The event's revision, or else its time; clamped to 13 digits."""
    return min(max(time_ms if revision is None else revision, 0), MAX_REVISION)


def is_of_a_time(version: str) -> bool:
    """Whether the content of a version was ordered by a time, or by a revision: few pipelines count up to 1990."""
    return content_in(version) >= milliseconds(EARLIEST)


def _format(content: int, release: int, run: int) -> str:
    return f"{content:013d}.{release:06d}.{run:013d}"
