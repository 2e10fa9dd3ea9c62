"""Which photos the demo publishes: those of a folder, and four that must fail."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from consumer.demo import failing
from consumer.errors import Reason, SettingsError
from consumer.imaging.formats import photo_suffixes

#: Photos in unsupported formats are published as well: the page shows why they are rejected.
SUFFIXES: Final = photo_suffixes()
_OPTION: Final = "--photos"
MAX_PHOTOS: Final = 5_000
SAMPLES: Final = Path(__file__).resolve().parents[1] / "embedded" / "samples"
#: An event's photo id has at most 200 characters; the rest is for the number that makes an id unique.
_MAX_STEM: Final = 180
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class BadFolder(SettingsError):
    """A folder that the user named cannot be used; the message names it, its option, and says why."""


@dataclass(frozen=True, slots=True)
class DemoPhoto:
    """A photo that the demo publishes; `photo_id` is unique within the run, `name` its path relative to its folder."""

    photo_id: str
    name: str
    uri: str
    #: None for the photo that is missing on purpose.
    path: Path | None
    #: The reason that its dead letter must have; None for a photo that may be tagged.
    must_fail: Reason | None = None


class Found(NamedTuple):
    """The photos of a folder: at most `MAX_PHOTOS` paths, sorted, and a line for each kind of files left out."""

    folder: Path
    paths: tuple[Path, ...]
    notes: tuple[str, ...]


def find_photos(folder: Path) -> Found:
    """The photos in a folder and below it, by their suffix in any case.

    Links that point outside the folder are left out, since the photo host does not follow them.

    Raises:
        BadFolder: There is no such folder, or no photo in it.
    """
    if not folder.is_dir():
        raise BadFolder(f"{folder} is no folder; PHOTOS=dir names one with photos", setting=_OPTION)
    root = folder.resolve()
    candidates = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    photos = [path for path in candidates if path.is_file() and path.resolve().is_relative_to(root)]
    named = [path for path in photos if _is_utf8(path.relative_to(folder))]
    if not named:
        raise BadFolder(
            f"no photos in {folder}; a photo is a file that ends in {' '.join(sorted(SUFFIXES))}", setting=_OPTION
        )
    notes = []
    if len(named) < len(photos):
        notes.append(f"{len(photos) - len(named)} files are left out: their names are not UTF-8")
    if len(named) > MAX_PHOTOS:
        notes.append(f"{len(named)} photos found: only the first {MAX_PHOTOS} are used")
    return Found(folder, tuple(named[:MAX_PHOTOS]), tuple(notes))


def plan(found: Found, photos_url: str, broken: Sequence[failing.Broken], broken_url: str) -> list[DemoPhoto]:
    """The photos to publish, with unique ids; those that must fail are spread among the others."""
    taken: set[str] = set()
    failing_photos = [
        DemoPhoto(_unique(Path(name).stem, taken), name, f"{broken_url}/{quote(name)}", path, reason)
        for name, path, reason in broken
    ]
    photos = [
        DemoPhoto(_unique(path.stem, taken), name, f"{photos_url}/{quote(name)}", path)
        for path in found.paths
        for name in [path.relative_to(found.folder).as_posix()]
    ]
    for number, photo in enumerate(failing_photos, 1):
        photos.insert(number * len(photos) // (len(failing_photos) + 1), photo)
    return photos


def _unique(stem: str, taken: set[str]) -> str:
    base = _CONTROL.sub("_", stem)[:_MAX_STEM]
    photo_id, number = base, 1
    while photo_id in taken:
        number += 1
        photo_id = f"{base}-{number}"
    taken.add(photo_id)
    return photo_id


def _is_utf8(path: Path) -> bool:
    """Whether the name is UTF-8; Python reads other names as lone surrogates, which JSON cannot hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
