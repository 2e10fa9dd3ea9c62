"""The bytes behind a path or a URI: local files here, http(s) through `download`."""

from pathlib import Path
from typing import Final
from urllib.parse import unquote

from training.data.download import Allowed, Limits, anywhere, fetch
from training.errors import Unreadable

#: Limits of one photo.
PHOTO: Final = Limits()
_HTTP: Final = frozenset({"http", "https"})


def scheme_of(uri: str) -> str:
    """The scheme in lower case; empty for a path."""
    scheme, colon, _ = uri.partition(":")
    return scheme.lower() if colon and "/" not in scheme else ""


def path_of(uri: str) -> Path:
    """The file that a path or a `file:` URI names.

    A `file:` URI has no query and no fragment (RFC 8089): a `?` or `#` in it belongs to the name, encoded or not. Names
    that are not UTF-8 are percent-encoded.

    Raises:
        Unreadable: The URI names another machine.
    """
    if scheme_of(uri) != "file":
        return Path(uri)
    path = uri[len("file:") :]
    if path.startswith("//"):
        host, slash, path = path[2:].partition("/")
        if host not in {"", "localhost"}:
            raise Unreadable(f"a file: URI is file:///path, without the host {host}")
        path = slash + path
    return Path(unquote(path, errors="surrogateescape"))


def read_bytes(uri: str, limits: Limits = PHOTO, allowed: Allowed = anywhere) -> bytes:
    """The bytes behind a path or a `file:`, `http:` or `https:` URI, in one attempt.

    Args:
        uri: What to read.
        limits: Limits of size, and of time for http(s).
        allowed: As in `download.fetch`; called for files, too.

    Raises:
        Unreadable: Missing, no response, incomplete, empty, too large, too slow, or not allowed.
    """
    if scheme_of(uri) in _HTTP:
        return fetch(uri, limits, allowed)
    allowed(uri)
    path = path_of(uri)
    try:
        if path.exists() and not path.is_file():  # to read a pipe may never end
            raise Unreadable("not a file", "no file")
        with path.open("rb") as stream:
            body = stream.read(limits.most_bytes + 1)
    except (OSError, ValueError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from None
    if not body:
        raise Unreadable("empty file", "empty file")
    if len(body) > limits.most_bytes:
        raise Unreadable(f"more than {limits.most_bytes} bytes", "too large")
    return body
