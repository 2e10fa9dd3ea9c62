"""Downloads the photos of some classes, rate-limited, and resumes an earlier download."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from rich.console import Console

from training.data.download import Limits, Pace, Saved, save
from training.errors import DataError, RecipeError
from training.progress import task
from training.studies.openimages.lists import BOXES, CLASSES, HIERARCHY, PHOTOS, boxes, list_file, originals

JOURNAL: Final = "downloads.jsonl"
IMAGES: Final = "images"
LISTS: Final = (CLASSES, BOXES, PHOTOS, HIERARCHY)
#: The largest list has 1.2 GB.
_LIST_BYTES: Final = 8_000_000_000
_LIST_S: Final = 24 * 3600.0


def photo_file(data: Path, photo: str) -> Path:
    """Where a photo is kept.

    Raises:
        DataError: The id is not alphanumeric.
    """
    if not photo.isalnum():
        raise DataError(f"{photo!r} is not a photo id")
    return data / IMAGES / f"{photo}.jpg"


def fetch_lists(data: Path, base: str, limits: Limits, names: Sequence[str] = LISTS) -> None:
    """Downloads missing lists from below a URL, where the release's folders are; the hierarchy is optional.

    Raises:
        DataError: A list could not be downloaded.
    """
    pace = Pace(limits)
    large = Limits(**{**asdict(limits), "most_bytes": _LIST_BYTES, "total_s": _LIST_S})
    for name in names:
        if list_file(data, name).is_file():
            continue
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        saved = save(f"{base.rstrip('/')}/{name}", data / name, large, pace)
        if saved.status != "done" and name != HIERARCHY:
            raise DataError(f"{name} could not be downloaded: {saved.reason}")


def journal(data: Path) -> dict[str, dict[str, Any]]:
    """The outcome of each requested photo by id; the last entry counts, and a truncated last line is ignored."""
    path, found = data / JOURNAL, {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        found[str(entry.get("photo"))] = entry
    return found


def fetch_photos(
    data: Path, classes: Sequence[str], limits: Limits, console: Console, template: str = "{url}"
) -> Counter[str]:
    """Downloads every photo of the classes; returns how many are here, done, gone, failed or unlisted.

    `template` is the address of a photo: {url} stands for its original URL, {id} for its id on a mirror. Photos that
    are here, and those that were gone before, are not requested again.

    Raises:
        DataError: The lists are missing or broken.
        RecipeError: The template has other placeholders.
    """
    wanted = sorted({box.photo for box in boxes(data, classes)})
    known, listed = journal(data), originals(data, wanted)
    ended: Counter[str] = Counter()
    todo: dict[str, str] = {}
    for photo in wanted:
        if photo_file(data, photo).is_file():
            ended["here"] += 1
        elif known.get(photo, {}).get("status") == "gone":
            ended["gone"] += 1
        elif photo not in listed:
            ended["unlisted"] += 1
        else:
            todo[photo] = _address(template, listed[photo].url, photo)
    ended.update(_download(data, todo, limits, console))
    return ended


def _address(template: str, url: str, photo: str) -> str:
    try:
        return template.format(url=url, id=quote(photo))
    except (LookupError, ValueError):
        raise RecipeError(f"{template!r}: only {{url}} and {{id}} can stand in it") from None


def _download(data: Path, todo: Mapping[str, str], limits: Limits, console: Console) -> Counter[str]:
    pace, ended = Pace(limits), Counter[str]()

    def one(photo: str) -> tuple[str, Saved]:
        return photo, save(todo[photo], photo_file(data, photo), limits, pace)

    with (
        task(console, "photos downloaded", max(1, len(todo))) as done,
        (data / JOURNAL).open("a") as stream,
        ThreadPoolExecutor(limits.connections) as pool,
    ):
        for photo, saved in pool.map(one, todo):
            stream.write(json.dumps({"photo": photo, "url": todo[photo], **asdict(saved)}) + "\n")
            stream.flush()
            ended[saved.status] += 1
            done(1)
    return ended
