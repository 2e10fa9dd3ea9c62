"""The demo's gallery: outcomes and files in, the page on disk out."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from consumer.demo.photos import DemoPhoto
from consumer.demo.statistics import Numbers
from consumer.demo.traffic import Ledger, Refusal
from consumer.events import Tags
from consumer.web import gallery, thumbnails

#: With more photos than this, thumbnails are smaller, so that the page still opens quickly.
_MANY: Final = 400
_SMALL_SIDE: Final = 160
#: No photo of a size that the service takes is longer; others get no thumbnail.
_MAX_FILE_BYTES: Final = 20 * 1024 * 1024


def draw(photos: Sequence[DemoPhoto], ledger: Ledger, advance: Callable[[], None]) -> dict[str, str | None]:
    """The thumbnail of each photo by its id, None where nothing can be drawn; `advance` is called for each."""
    side = thumbnails.SIDE if len(photos) <= _MANY else _SMALL_SIDE

    def one(photo: DemoPhoto) -> str | None:
        outcome = ledger.outcomes.get(photo.photo_id)
        refused = outcome is not None and isinstance(outcome.result, Refusal)
        return _draw(photo.path, side, partly=refused)

    drawn = {}
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="thumbnail") as pool:
        try:
            for photo, picture in zip(photos, pool.map(one, photos), strict=True):
                drawn[photo.photo_id] = picture
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return drawn


def sort_out(
    photos: Iterable[DemoPhoto], ledger: Ledger, stored: Mapping[str, Tags], pictures: Mapping[str, str | None]
) -> tuple[list[gallery.TaggedPhoto], list[gallery.DeadLetter]]:
    """What the page shows: tags as Redis has them, dead letters as the topic has them, the planned ones first."""
    tagged, dead = [], []
    for photo in sorted(photos, key=lambda photo: photo.must_fail is None):
        outcome = ledger.outcomes.get(photo.photo_id)
        picture = pictures.get(photo.photo_id)
        if outcome is not None and isinstance(outcome.result, Refusal):
            refusal = outcome.result
            dead.append(gallery.DeadLetter(photo.photo_id, photo.name, refusal.reason, refusal.detail, picture))
        elif tags := stored.get(photo.photo_id):
            tagged.append(gallery.TaggedPhoto(photo.photo_id, photo.name, tags.quality, tuple(tags.brands), picture))
    return tagged, dead


def summary_of(numbers: Numbers, stored: Mapping[str, Tags], notice: str) -> gallery.Summary:
    """What stands above the photos, with every version of each model that judged one."""
    versions: dict[str, set[str]] = defaultdict(set)
    for tags in stored.values():
        for model, version in tags.models.items():
            versions[model].add(version)
    models = {model: sorted(found) for model, found in versions.items()}
    return gallery.Summary(numbers.photos_per_s, numbers.p50_ms, numbers.p95_ms, models, notice, datetime.now(UTC))


def write(path: Path, html: str) -> None:
    """Writes the page, whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(html, encoding="utf-8")
    draft.replace(path)


def _draw(path: Path | None, side: int, *, partly: bool) -> str | None:
    if path is None:
        return None
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            return None
        body = path.read_bytes()
    except OSError:
        return None
    return thumbnails.thumbnail(body, side) or (thumbnails.partial_thumbnail(body, side) if partly else None)
