"""Placeholders of deleted photos, and how to detect them."""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from PIL import Image

from training.data.decode import decode
from training.data.formats import served
from training.data.read import read_bytes
from training.data.tables import lines_of
from training.errors import DataError, Unreadable
from training.serving.files import sha256
from training.studies.openimages.lists import Original

#: Known placeholders, a SHA-256 a line, beside the lists.
HASHES: Final = "placeholders.txt"
#: Where a photo host sends those who ask for a deleted photo.
_REDIRECT: Final = "unavailable"
_GREY: Final = frozenset({"1", "L", "I", "I;16", "I;16B", "F"})
SINGLE_CHANNEL, KNOWN, REPEATED, REDIRECTED = "single channel", "known hash", "same bytes as another", "redirected"
OTHER, UNREADABLE, MISSING = "other bytes than listed", "unreadable", "not downloaded"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules that apply."""

    #: The study's rule: a picture of one channel is a placeholder. It drops black and white photos too.
    single_channel: bool = True
    #: Hash list, size and MD5 of the list of photos, redirects, and bytes that several photos share.
    hashes: bool = True


def known_hashes(data: Path) -> frozenset[str]:
    """The hashes of placeholders.txt beside the lists; none without that file.

    Raises:
        DataError: A line is not a SHA-256.
    """
    path, found = data / HASHES, set()
    for number, line in enumerate(lines_of(path) if path.is_file() else (), 1):
        text = line.partition("#")[0].strip().lower()
        if text and not (len(text) == 64 and set(text) <= set("0123456789abcdef")):
            raise DataError(f"{path}, line {number}: not a SHA-256")
        found.add(text)
    return frozenset(found - {""})


def sort_out(
    files: Mapping[str, Path],
    known: frozenset[str],
    journal: Mapping[str, Mapping[str, Any]],
    rules: Rules,
    listed: Mapping[str, Original] = MappingProxyType({}),
) -> dict[str, str]:
    """Unusable photos by id, with the reason: missing, broken, or a placeholder.

    A photo that came from its listed address must have the listed size and MD5; from elsewhere it may be another file.
    """
    bodies = {photo: sha256(path) if path.is_file() else "" for photo, path in files.items()}
    shared = {digest for digest, count in Counter(bodies.values()).items() if digest and count > 1}
    dropped = {}
    for photo, path in files.items():
        digest = bodies[photo]
        if not digest:
            dropped[photo] = MISSING
        elif rules.hashes and digest in known:
            dropped[photo] = KNOWN
        elif rules.hashes and _other_bytes(path, listed.get(photo), journal.get(photo, {})):
            dropped[photo] = OTHER
        elif rules.hashes and digest in shared:
            dropped[photo] = REPEATED
        elif rules.hashes and _REDIRECT in str(journal.get(photo, {}).get("final_url", "")):
            dropped[photo] = REDIRECTED
        elif reason := _look(path, rules):
            dropped[photo] = reason
    return dropped


def _other_bytes(path: Path, original: Original | None, asked: Mapping[str, Any]) -> bool:
    """Whether a file that came from the address of an original is another file."""
    if original is None or asked.get("url") != original.url:
        return False
    if original.size is not None and path.stat().st_size != original.size:
        return True
    if not original.md5:
        return False
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).digest()
    return base64.b64encode(digest).decode() != original.md5


def _look(path: Path, rules: Rules) -> str:
    """Why a file is not a photo; empty where it is one."""
    try:
        body = read_bytes(str(path))
        decode(body, 1)
    except Unreadable:
        return UNREADABLE
    with Image.open(io.BytesIO(body), formats=tuple(served())) as opened:
        return SINGLE_CHANNEL if rules.single_channel and opened.mode in _GREY else ""


def summary(dropped: Mapping[str, str], photos: Sequence[str]) -> str:
    """One sentence: how many were dropped, by reason."""
    counts = ", ".join(f"{reason} {count}" for reason, count in sorted(Counter(dropped.values()).items()))
    return f"{len(dropped)} of {len(photos)} photos are dropped{': ' if counts else ''}{counts}."
