"""Writes the demo's gallery from the outcomes and the photo files."""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from consumer.demo.ledger import Ledger, numbers_of, releases_of
from consumer.demo.photos import DemoPhoto
from consumer.events import Tags
from consumer.kafka.headers import Failure
from consumer.web import gallery, thumbnails

#: With more photos than this, thumbnails are smaller, so that the page still opens quickly.
_MANY: Final = 400
_SMALL_SIDE: Final = 160
#: As `fetch.max_bytes`; larger files get no thumbnail.
_MAX_FILE_BYTES: Final = 20 * 1024 * 1024


def write(
    path: Path,
    photos: Sequence[DemoPhoto],
    ledger: Ledger,
    pictures: Mapping[str, str | None],
    stored: Mapping[str, Tags],
    *,
    notice: str,
    change: gallery.Link | None = None,
) -> tuple[list[gallery.TaggedPhoto], list[gallery.DeadLetter]]:
    """Writes the page, atomically, and returns what it shows: tags from Redis, dead letters from the topic.

    The planned dead letters come first; `change` leads to the page of a change of the models.
    """
    tagged, dead = [], []
    for photo in sorted(photos, key=lambda photo: photo.must_fail is None):
        failure, picture = _failure(photo, ledger), pictures[photo.photo_id]
        if failure is not None:
            dead.append(gallery.DeadLetter(photo.photo_id, photo.name, failure.reason, failure.detail, picture))
        elif tags := stored.get(photo.photo_id):
            tagged.append(gallery.TaggedPhoto(photo.photo_id, photo.name, tags.quality, tuple(tags.brands), picture))
    draft = path.with_suffix(".draft")
    draft.write_text(gallery.render(tagged, dead, _summary(ledger, stored, notice, change)), encoding="utf-8")
    draft.replace(path)
    return tagged, dead


def draw(photos: Sequence[DemoPhoto], ledger: Ledger, advance: Callable[[], None]) -> dict[str, str | None]:
    """The thumbnail of each photo by its id, None if it cannot be drawn; `advance` is called for each."""
    side = thumbnails.SIDE if len(photos) <= _MANY else _SMALL_SIDE

    def thumbnail(photo: DemoPhoto) -> str | None:
        return _thumbnail(photo.path, side, partial=_failure(photo, ledger) is not None)

    drawn = {}
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="thumbnail") as pool:
        try:
            for photo, picture in zip(photos, pool.map(thumbnail, photos), strict=True):
                drawn[photo.photo_id] = picture
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return drawn


def _failure(photo: DemoPhoto, ledger: Ledger) -> Failure | None:
    outcome = ledger.outcomes.get(photo.photo_id)
    return outcome.result if outcome is not None and isinstance(outcome.result, Failure) else None


def _summary(ledger: Ledger, stored: Mapping[str, Tags], notice: str, change: gallery.Link | None) -> gallery.Summary:
    numbers = numbers_of(ledger)
    versions: dict[str, set[str]] = defaultdict(set)
    for tags in stored.values():
        for model, version in tags.models.items():
            versions[model].add(version)
    models = {model: sorted(found) for model, found in versions.items()}
    return gallery.Summary(
        photos_per_s=numbers.photos_per_s,
        p50_ms=numbers.p50_ms,
        p95_ms=numbers.p95_ms,
        models=models,
        releases=releases_of(stored),
        notice=notice,
        created_at=datetime.now(UTC),
        change=change,
    )


def _thumbnail(path: Path | None, side: int, *, partial: bool) -> str | None:
    if path is None:
        return None
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            return None
        body = path.read_bytes()
    except OSError:
        return None
    return thumbnails.thumbnail(body, side) or (thumbnails.partial_thumbnail(body, side) if partial else None)
