"""Fetches the photos of a trial: only from allowed hosts and folders, within limits of size and time."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from PIL import Image

from training.data.decode import decode
from training.data.read import PHOTO, path_of, read_bytes, scheme_of
from training.errors import Unreadable

_LIMITS: Final = replace(PHOTO, total_s=20.0)
_SHOWN_PX: Final = 480


@dataclass(frozen=True, slots=True)
class Places:
    """Allowed sources of photos: `host` or `host:port` of HTTP URIs, and folders of files."""

    hosts: frozenset[str] = frozenset()
    folders: tuple[Path, ...] = ()

    def check(self, uri: str) -> None:
        """Checks a URI.

        Raises:
            Unreadable: Its host or folder is not allowed, or a trial cannot read its scheme.
        """
        scheme = scheme_of(uri)
        if scheme in {"http", "https"}:
            parts = urlsplit(uri)
            if parts.hostname not in self.hosts and parts.netloc not in self.hosts:
                raise Unreadable(f"host {parts.hostname} was not named by --host")
            return
        if scheme not in {"", "file"}:
            raise Unreadable(f"a trial reads http, https and file, not {scheme}")
        path = path_of(uri).resolve()
        if not any(path.is_relative_to(folder.resolve()) for folder in self.folders):
            raise Unreadable("its folder was not named by --folder")


def shown(body: bytes) -> bytes:
    """The photo that judges see: a JPEG of at most 480 px, upright, without metadata.

    Raises:
        Unreadable: It cannot be decoded.
    """
    image = decode(body, _SHOWN_PX).image
    image.thumbnail((_SHOWN_PX, _SHOWN_PX), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=82)
    return stream.getvalue()


def collect(uris: Mapping[str, str | None], places: Places) -> tuple[dict[str, bytes], dict[str, str]]:
    """JPEGs by photo id as `shown` makes them, and why other photos are missing."""
    good: dict[str, bytes] = {}
    bad: dict[str, str] = {}
    for name, uri in uris.items():
        if uri is None:
            bad[name] = "its upload event is no longer in the topic"
            continue
        try:
            good[name] = shown(read_bytes(uri, _LIMITS, places.check))
        except Unreadable as error:
            bad[name] = str(error)
    return good, bad
