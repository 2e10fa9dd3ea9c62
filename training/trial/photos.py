"""Fetches the photos of a trial: only from hosts and folders that the operator named, bounded in bytes and time."""

import io
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Final
from urllib.parse import unquote, urlsplit

from PIL import Image

from training.data.decode import MAX_BYTES, decode
from training.errors import Unreadable

_TIMEOUT_S: Final = 20.0
_CHUNK: Final = 1 << 16
_SHOWN_PX: Final = 480


@dataclass(frozen=True, slots=True)
class Places:
    """Where photos may come from: `host` or `host:port` of HTTP URIs, and folders of files."""

    hosts: frozenset[str] = frozenset()
    folders: tuple[Path, ...] = ()

    def check(self, uri: str) -> None:
        """Lets a URI through or not.

        Raises:
            Unreadable: Another host or folder, or a scheme that a trial cannot read.
        """
        parts = urlsplit(uri)
        if parts.scheme in {"http", "https"}:
            if parts.hostname not in self.hosts and parts.netloc.rpartition("@")[2] not in self.hosts:
                raise Unreadable(f"host {parts.hostname} was not named by --host")
            return
        if parts.scheme not in {"", "file"}:
            raise Unreadable(f"a trial reads http, https and file, not {parts.scheme}")
        path = Path(unquote(parts.path)).resolve()
        if not any(path.is_relative_to(folder.resolve()) for folder in self.folders):
            raise Unreadable("its folder was not named by --folder")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows only to places that are allowed."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def redirect_request(  # noqa: PLR0917 - the library's own signature
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        self._places.check(newurl)
        if urlsplit(newurl).scheme not in {"http", "https"}:
            raise Unreadable("redirected away from HTTP")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(uri: str, places: Places) -> bytes:
    """The bytes of a photo.

    Raises:
        Unreadable: It is not allowed, not there, too large or too slow.
    """
    places.check(uri)
    try:
        if urlsplit(uri).scheme in {"http", "https"}:
            opener = urllib.request.build_opener(_Redirects(places))
            with opener.open(uri, timeout=_TIMEOUT_S) as answer:
                return _bounded(answer)
        with Path(unquote(urlsplit(uri).path)).open("rb") as stream:
            return _bounded(stream)
    except (OSError, ValueError, HTTPException, urllib.error.URLError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from None


def _bounded(stream: IO[bytes]) -> bytes:
    end, parts, size = time.monotonic() + _TIMEOUT_S, [], 0
    while part := stream.read(_CHUNK):
        size += len(part)
        if size > MAX_BYTES:
            raise Unreadable(f"more than {MAX_BYTES} bytes")
        if time.monotonic() > end:
            raise Unreadable(f"not there within {_TIMEOUT_S:g} s")
        parts.append(part)
    return b"".join(parts)


def shown(body: bytes) -> bytes:
    """A photo as a judge sees it: a JPEG of at most 480 px, upright, without its metadata.

    Raises:
        Unreadable: It is no photo.
    """
    image = decode(body, _SHOWN_PX).image
    image.thumbnail((_SHOWN_PX, _SHOWN_PX), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=82)
    return stream.getvalue()


def collect(uris: Mapping[str, str | None], places: Places) -> tuple[dict[str, bytes], dict[str, str]]:
    """Shown photos by name, and why others cannot be shown."""
    good: dict[str, bytes] = {}
    bad: dict[str, str] = {}
    for name, uri in uris.items():
        if uri is None:
            bad[name] = "its upload event is no longer in the topic"
            continue
        try:
            good[name] = shown(fetch(uri, places))
        except Unreadable as error:
            bad[name] = str(error)
    return good, bad
