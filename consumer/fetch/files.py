"""Photos from files below one folder: `file:` URIs."""

import asyncio
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from yarl import URL

from consumer.errors import PhotoRejected, Retryable
from consumer.fetch.attempt import Attempt, NotFound
from consumer.fetch.urls import MAX_SHOWN

# Not blocking: opening a named pipe would wait for its writer.
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
# O_PATH needs no right to list the folder; only Linux has it.
_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


async def read_file(url: URL, root: Path | None, attempt: Attempt) -> bytes:
    """The bytes of a file below `root`; links are followed if they stay below it. Passes on what `make_room` raises.

    Raises:
        PhotoRejected: `url_not_allowed`, `too_many_bytes`, or `http_4xx` for a file that may not be read.
        NotFound: there is no such file.
        Retryable: `short_body`, it cannot be read to its end.
    """
    handle, size, path = await asyncio.to_thread(_opened, url, root)
    try:
        await attempt.make_room(path, size)
        return await asyncio.to_thread(_read, handle, size, path)
    finally:
        os.close(handle)


def _opened(url: URL, root: Path | None) -> tuple[int, int, str]:
    """A handle of the file, its size and its path.

    Raises:
        PhotoRejected: as `read_file`.
        NotFound: as `read_file`.
    """
    top, real = _allowed_path(url, root)
    try:
        handle = open_below(top, Path(real).relative_to(top).parts)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"no such file: {real[:MAX_SHOWN]}") from None
    except OSError as error:
        raise PhotoRejected("http_4xx", f"cannot open {real[:MAX_SHOWN]}: {error.strerror}") from None
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode):
        os.close(handle)
        raise PhotoRejected("url_not_allowed", f"{real[:MAX_SHOWN]} is not a regular file")
    return handle, facts.st_size, real[:MAX_SHOWN]


def open_below(root: str, parts: Sequence[str]) -> int:
    """A handle of the file at `parts` below a folder, opened without following any link.

    The path was resolved before; a link found now was created since, and might point outside the folder.

    Raises:
        OSError: one of the parts cannot be opened, or has become a link.
    """
    folder = os.open(root, _FOLDER)
    try:
        for part in parts[:-1]:
            below = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(parts[-1] if parts else ".", _FILE, dir_fd=folder)
    finally:
        os.close(folder)


def _allowed_path(url: URL, root: Path | None) -> tuple[str, str]:
    """The real path of the root folder, and of what the URL names below it.

    Raises:
        PhotoRejected: `url_not_allowed`.
    """
    if root is None:
        raise PhotoRejected("url_not_allowed", "file: URIs need a root folder, which fetch.file_root sets")
    path = unquote(url.raw_path)
    if url.raw_authority not in {"", "localhost"} or "\0" in path:
        raise PhotoRejected("url_not_allowed", "a file: URI is file:///path, without a host")
    top, real = os.path.realpath(root), os.path.realpath(path)
    if not Path(real).is_relative_to(top):
        raise PhotoRejected("url_not_allowed", f"{path[:MAX_SHOWN]} is not below the root folder for file: URIs")
    return top, real


def _read(handle: int, size: int, path: str) -> bytes:
    try:
        with os.fdopen(handle, "rb", closefd=False) as file:
            body = file.read(size)
    except OSError as error:
        raise Retryable("short_body", f"cannot read {path}: {error.strerror}") from None
    if len(body) < size:
        raise Retryable("short_body", f"{path}: {len(body)} of {size} bytes")
    return body
