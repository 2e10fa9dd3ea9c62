"""The files below a folder: photos, known by their content, and what is left out, with the reason.

Links to folders are followed. Hidden files and folders, and those that tools write beside photos, are left out.
"""

import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.data.formats import HEAD_BYTES, format_of, photo_suffixes
from training.data.photos import Photo
from training.errors import DataError

#: Folders that file servers, archives, systems and programs make; compared in lower case.
_TOOLS: Final = frozenset({
    "@eadir", "@recycle", "@recently-snapshot", "@tmp", "@transcode", "#recycle", "#snapshot", "~snapshot", "__macosx",
    "__pycache__", "$recycle.bin", "recycler", "system volume information", "lost+found", "network trash folder",
    "temporary items", "@__thumb", "@synoresource", "_gsdata_", "found.000", "cvs", "node_modules",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Files that are not used, and why."""

    path: Path
    reason: str
    files: int = 1


@dataclass(frozen=True, slots=True)
class Linked:
    """A link that leads out of the folder and was followed."""

    path: Path
    target: Path


#: What a source that reads folders yields.
Listed = Photo | LeftOut | Linked


def walk(folder: Path, within: Path | None = None) -> Iterator[Path | LeftOut | Linked]:
    """Every file below a folder, sorted by path; links that lead out of `within`, by default the folder, are named.

    A file is a photo by its first bytes, in a format that the service reads or in another, which is reported as
    unreadable; so is a file that is named like a photo and is none.

    Yields:
        Photos, what is left out, and links that lead out of the folder.

    Raises:
        DataError: No such folder, or a link to a folder that holds it.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}")
    yield from _below(folder, _real(within or folder), (_real(folder),))


def photo_files(folder: Path) -> list[Path]:
    """The photos of `walk`, which raises the same."""
    return [found for found in walk(folder) if isinstance(found, Path)]


def folders_in(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted, without hidden ones and those of tools.

    Raises:
        DataError: No such folder, or it cannot be opened.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}")
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not unwanted(path))
    except OSError as error:
        raise DataError(f"{folder} cannot be opened: {error.strerror}") from None


def photos_of(found: Iterable[Listed]) -> list[Photo]:
    """The photos of what a source lists."""
    return [one for one in found if isinstance(one, Photo)]


def unwanted(path: Path) -> bool:
    """Whether a file or folder is hidden or made by a tool."""
    return path.name.startswith(".") or path.name.lower() in _TOOLS


def left_out(path: Path, reason: str = "") -> LeftOut:
    """All files of an unwanted file or folder, or of one that is left out for another reason."""
    is_folder = path.is_dir()
    kind = "hidden folder" if path.name.startswith(".") else "folder of a tool"
    own = f"{kind}: {text_of(path.name)}" if is_folder else "hidden file"
    linked = path.is_symlink() or not is_folder
    return LeftOut(path, reason or own, 1 if linked else sum(len(names) for _, _, names in os.walk(path)))


def text_of(path: Path | str) -> str:
    """A path as text that is equal on every system: NFC, which some store decomposed, and valid Unicode."""
    return unicodedata.normalize("NFC", str(path)).encode(errors="backslashreplace").decode()


def _real(path: Path) -> Path:
    """Where all links lead; `Path.resolve` raises where a link leads to itself."""
    return Path(os.path.realpath(path))


def _below(folder: Path, within: Path, holders: tuple[Path, ...]) -> Iterator[Path | LeftOut | Linked]:
    """The recursion of `walk`.

    Args:
        folder: Where to go on.
        within: Resolved; links that lead out of it are named.
        holders: The resolved folders on the way here.

    Yields:
        As `walk`.

    Raises:
        DataError: A link to one of `holders`.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        yield LeftOut(folder, f"folder that cannot be opened: {error.strerror}")
        return
    for path in paths:
        is_folder = path.is_dir()
        if unwanted(path):
            yield left_out(path)
            continue
        if path.is_symlink():
            target = _real(path)
            if is_folder and target in holders:
                raise DataError(f"{path} is a link to {target}, which holds it: remove the link")
            if path.exists() and not target.is_relative_to(within):
                yield Linked(path, target)
        if is_folder:
            yield from _below(path, within, (*holders, _real(path)))
        else:
            yield _file(path)


def _file(path: Path) -> Path | LeftOut:
    if not path.is_file():
        return LeftOut(path, "broken link" if path.is_symlink() else "no file")
    if path.suffix.lower() in photo_suffixes():
        return path
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return path  # may be a photo: to be reported as one that cannot be read
    return path if format_of(head) else LeftOut(path, "no photo" if head else "empty file")
