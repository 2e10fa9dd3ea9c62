"""Versions: the order of all writes about one photo, as fixed-width text that is compared as text.

`content_rev(13).model_rank(6).run_seq(13)`, all decimal digits. Text, because Lua's numbers are exact up to 2^53 only.
The content decides before the models, the models before the run.
"""

from typing import Final

from consumer.contract import MAX_MODEL_VERSION
from consumer.events import EARLIEST, MAX_REVISION, PhotoDeleted, PhotoUploaded, milliseconds

#: The run of live records and of replays with the served models: a duplicate or a replay has the same version, and so
#: changes nothing.
LIVE_RUN: Final = 0

_TOP_RANK: Final = 999_999


def model_rank(quality_version: int, brand_version: int) -> int:
    """The rank of a pair of model versions, 0..999999; higher when one is higher and the other not lower.

    Raises:
        ValueError: a version is outside 0..999, the three digits that each model has.
    """
    for version in (quality_version, brand_version):
        if not 0 <= version <= MAX_MODEL_VERSION:
            raise ValueError(f"model version {version} is outside 0..{MAX_MODEL_VERSION}")
    return quality_version * (MAX_MODEL_VERSION + 1) + brand_version


def version_of(event: PhotoUploaded, rank: int, run: int = LIVE_RUN) -> str:
    """The version of an upload's tags."""
    return _format(content_revision(event.revision, milliseconds(event.uploaded_at)), rank, run)


def tombstone_of(event: PhotoDeleted) -> str:
    """The version of a deletion: above every rescoring of the contents that it deletes, below the next upload's."""
    return _format(content_revision(event.revision, milliseconds(event.deleted_at)), _TOP_RANK, MAX_REVISION)


def above_rescorings(version: str) -> str:
    """The version of a deletion of the content that a version is of."""
    return _format(int(version.partition(".")[0]), _TOP_RANK, MAX_REVISION)


def content_revision(revision: int | None, time_ms: int) -> int:
    """The event's revision, or else its time; clamped to 13 digits."""
    return min(max(time_ms if revision is None else revision, 0), MAX_REVISION)


def is_of_a_time(version: str) -> bool:
    """Whether the content of a version was ordered by a time, or by a revision: few pipelines count up to 1990."""
    return int(version.partition(".")[0]) >= milliseconds(EARLIEST)


def _format(content: int, rank: int, run: int) -> str:
    return f"{content:013d}.{rank:06d}.{run:013d}"
