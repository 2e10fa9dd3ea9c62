"""Which photos the demo publishes: those of a folder, and four that must fail."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import quote

from consumer.demo import failing
from consumer.demo.errors import BadFolder
from consumer.errors import Reason
from consumer.imaging.formats import photo_suffixes

#: Photos in formats that are not read are published as well: the page shows why they are refused.
SUFFIXES: Final = photo_suffixes()
MAX_PHOTOS: Final = 5_000
SAMPLES: Final = Path(__file__).resolve().parents[1] / "embedded" / "samples"
#: Leaves room below the 200 characters of an event's photo id for what tells namesakes apart.
_MAX_STEM: Final = 180
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class DemoPhoto:
    """A photo that the demo publishes.

    Attributes:
        photo_id: Unique within the run.
        name: Its path below its folder, for people.
        uri: Where the service fetches it.
        path: Its file; None where there is none on purpose.
        must_fail: The reason that its dead letter must have; None for a photo that may be tagged.
    """

    photo_id: str
    name: str
    uri: str
    path: Path | None
    must_fail: Reason | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The photos of a folder, sorted by path.

    Attributes:
        folder: Where they lie.
        paths: At most `MAX_PHOTOS` files.
        notes: What the user must know of files that were left out; a line each.
    """

    folder: Path
    paths: tuple[Path, ...]
    notes: tuple[str, ...]


def find_photos(folder: Path) -> Found:
    """The photos in a folder and below it, by their suffix in any case.

    Links that lead out of the folder are left out, as the photo host does not follow them.

    Raises:
        BadFolder: There is no such folder, or no photo in it.
    """
    if not folder.is_dir():
        raise BadFolder(f"{folder} is not a folder; PHOTOS=dir names a folder with photos")
    root = folder.resolve()
    candidates = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    photos = [path for path in candidates if path.is_file() and path.resolve().is_relative_to(root)]
    named = [path for path in photos if _is_text(path.relative_to(folder))]
    if not named:
        raise BadFolder(f"no photos in {folder}; a photo is a file that ends in {' '.join(sorted(SUFFIXES))}")
    notes = []
    if len(named) < len(photos):
        notes.append(f"{len(photos) - len(named)} files are left out: their names are not UTF-8")
    if len(named) > MAX_PHOTOS:
        notes.append(f"{len(named)} photos found: only the first {MAX_PHOTOS} are used")
    return Found(folder, tuple(named[:MAX_PHOTOS]), tuple(notes))


def plan(found: Found, photos_url: str, broken: Sequence[failing.Broken], broken_url: str) -> list[DemoPhoto]:
    """The photos to publish, with unique ids: those that must fail stand between the others, not at the end."""
    taken: set[str] = set()
    doomed = [
        DemoPhoto(
            _unique(Path(each.name).stem, taken), each.name, f"{broken_url}/{quote(each.name)}", each.path, each.reason
        )
        for each in broken
    ]
    photos = [
        DemoPhoto(_unique(path.stem, taken), name, f"{photos_url}/{quote(name)}", path)
        for path in found.paths
        for name in [path.relative_to(found.folder).as_posix()]
    ]
    return list(_interleave(photos, doomed))


def _interleave(many: Sequence[DemoPhoto], few: Sequence[DemoPhoto]) -> Iterator[DemoPhoto]:
    step = max(1, len(many) // (len(few) + 1))
    waiting = iter(few)
    for number, photo in enumerate(many, 1):
        yield photo
        if number % step == 0:
            yield from islice(waiting, 1)
    yield from waiting


def _unique(stem: str, taken: set[str]) -> str:
    base = _CONTROL.sub("_", stem)[:_MAX_STEM]
    photo_id, number = base, 1
    while photo_id in taken:
        number += 1
        photo_id = f"{base}-{number}"
    taken.add(photo_id)
    return photo_id


def _is_text(path: Path) -> bool:
    """Whether the name is text; other names reach Python as lone surrogates, which no JSON can hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
