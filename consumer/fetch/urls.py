"""URLs of photos: parsing, redirects, checks of their form, and display without secrets. Pure."""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from yarl import URL

from consumer.errors import PhotoRejected
from consumer.fetch.addresses import STORE_ENDPOINTS, a_labels, canonical_host

HTTP: Final = frozenset({"http", "https"})
MAX_SHOWN: Final = 200
#: The part before the host of a URL, and a host that is not ASCII, up to its port; a user name is never taken for one.
_HOST: Final = re.compile(r"^([^:/?#]*://(?:[^/?#]*@)?+)([^/?#:\[\]@]*[^\x00-\x7f][^/?#:\[\]@]*)")
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
#: A URL or a part of one: scheme, slashes, what follows them, and query.
_REFERENCE: Final = re.compile(r"([a-z][a-z0-9+.-]*:)?(/*)([^?#]*)(\?[^#]*)?", re.ASCII | re.IGNORECASE)
#: What browsers leave out of a Location, and what they quote in its path and in its query.
_LEFT_OUT: Final = re.compile(r"^[\x00-\x20]+|[\t\n\r]+|[\x00-\x20]+$")
_QUOTED_IN_PATH: Final = re.compile(r'[\x00-\x20"<>^`{}\x7f]')
_QUOTED_IN_QUERY: Final = re.compile(r"[\x00-\x20\"'<>\x7f]")


def parsed(uri: str) -> URL:
    """The URL of an event or a redirect, its quoting unchanged, because requoting would break signed URLs.

    Characters that are not ASCII are quoted; bytes that are not UTF-8 may stand in it as `surrogateescape` has them.

    Raises:
        PhotoRejected: `url_not_allowed`.
    """
    if odd := _CONTROL.search(uri):
        what = f"the URI holds {odd[0]!r}: leave it out, or write it as {quote(odd[0])}"
        raise PhotoRejected("url_not_allowed", what)
    if uri[:5].lower() == "file:":
        # It has no query and no fragment (RFC 8089): both belong to the name.
        uri = uri.replace("?", "%3F").replace("#", "%23")
    try:
        url = URL(_in_ascii(uri), encoded=True)
    except (ValueError, IndexError):  # yarl's answer to brackets before an @ and no host
        raise PhotoRejected("url_not_allowed", "the URI cannot be read as a URL") from None
    try:
        # yarl parses the port on first access, and takes +80 and 8_0 for numbers.
        odd_port = url.explicit_port is not None and not url.raw_authority.rpartition(":")[2].isdecimal()
    except ValueError:
        odd_port = True
    if odd_port:
        what = "the port in the URI is not a number up to 65535; an IPv6 address stands in brackets"
        raise PhotoRejected("url_not_allowed", what)
    if url.scheme in HTTP and "\\" in url.raw_path:
        raise PhotoRejected("url_not_allowed", f"{shown(url)}: a backslash: write / or %5C, whichever is meant")
    if url.scheme in STORE_ENDPOINTS and ("?" in uri or "#" in uri):
        what = "in the key of an object, ? is written %3F and # is written %23"
        raise PhotoRejected("url_not_allowed", f"{shown(url)}: {what}")
    return url


def redirected(url: URL, location: str) -> URL:
    """Where the `Location` of an answer from `url` leads, read as browsers read it; without its fragment.

    Spaces and characters that are not ASCII are quoted, backslashes are slashes, and dot segments are resolved.

    Raises:
        PhotoRejected: `url_not_allowed`.
    """
    path, mark, query = _LEFT_OUT.sub("", location).partition("?")
    text = _quoted(_QUOTED_IN_PATH, path.replace("\\", "/")) + mark + _quoted(_QUOTED_IN_QUERY, query)
    scheme, slashes, path, query = _REFERENCE.findall(text)[0]
    own = f"{url.scheme}:"
    if len(slashes) > 1 or scheme.lower() not in {"", own}:
        # However many slashes there are, a host follows them.
        authority, slash, path = path.partition("/")
        path = slash + path
    else:
        authority = url.raw_authority
        if not slashes + path:
            path, query = url.raw_path, query or f"?{url.raw_query_string}"
        elif not slashes:
            path = f"{url.raw_path.rpartition('/')[0]}/{path}"
        else:
            path = f"/{path}"
    return parsed(f"{scheme or own}//{authority}{_without_dots(path)}{query}")


def check_web(url: URL, schemes: tuple[str, ...]) -> None:
    """Rejects URLs that may not be requested over HTTP, whatever their address.

    Raises:
        PhotoRejected: `url_not_allowed`.
    """
    if url.scheme not in HTTP or url.scheme not in schemes:
        allowed = ", ".join(schemes)
        what = f"scheme {url.scheme[:20]!r} is not among the allowed ones ({allowed})"
        raise PhotoRejected("url_not_allowed", f"{shown(url)}: {what}")
    if "@" in url.raw_authority:
        raise PhotoRejected("url_not_allowed", f"{shown(url)}: credentials in a URL are not sent")
    host = host_of(url)
    if url.port == 0:
        raise PhotoRejected("url_not_allowed", f"{shown(url)}: nothing can be reached at port 0")
    try:
        if "xn--" in host:
            URL(f"//{host}", encoded=True).host  # noqa: B018 - yarl decodes A-labels on access
    except ValueError:
        raise PhotoRejected("url_not_allowed", f"{shown(url)}: a label with xn-- that encodes no name") from None


def host_of(url: URL) -> str:
    """The canonical host of an http or https URL.

    Raises:
        PhotoRejected: `url_not_allowed`, it has no valid host.
    """
    host = url.raw_host or ""
    # yarl removes the brackets even if they hold no IPv6 address.
    bracketed = url.raw_authority.rpartition("@")[2].startswith("[")
    try:
        return canonical_host(f"[{host}]" if bracketed else host)
    except ValueError as error:
        raise PhotoRejected("url_not_allowed", f"{shown(url)}: {error}") from None


def origin(url: URL) -> str:
    """The origin of a photo: `https://host:443`, `s3://bucket` or `file://`; the same for all spellings of a host.

    Raises:
        PhotoRejected: `url_not_allowed`, photos cannot be fetched by this scheme.
    """
    if url.scheme in HTTP:
        return f"{url.scheme}://{_bracketed(host_of(url))}:{url.port}"
    if url.scheme in STORE_ENDPOINTS:
        return f"{url.scheme}://{url.raw_host or ''}"
    if url.scheme == "file":
        return "file://"
    raise PhotoRejected("url_not_allowed", f"scheme {url.scheme[:20]!r} is not one that photos come from")


@lru_cache(256)
def origin_of(uri: str) -> str:
    """The origin of a photo's URI, which is asked for several times on the way of each photo.

    Raises:
        PhotoRejected: as `parsed` and `origin`.
    """
    return origin(parsed(uri))


def shown(url: URL) -> str:
    """The URL for messages: without credentials and query, which may be a signature, and cut to `MAX_SHOWN`."""
    port = "" if url.explicit_port is None else f":{url.explicit_port}"
    return f"{url.scheme}://{_bracketed(url.raw_host or '')}{port}{url.raw_path}"[:MAX_SHOWN]


def _in_ascii(uri: str) -> str:
    """The URI with its host in A-labels and every other character that is not ASCII as its UTF-8 bytes, quoted.

    Raises:
        ValueError: the host cannot be encoded, or a character cannot.
    """
    if uri.isascii():
        return uri
    uri = _HOST.sub(lambda match: match[1] + a_labels(match[2]), uri, count=1)
    return _NOT_ASCII.sub(lambda match: quote(match[0], errors="surrogateescape"), uri)


def _quoted(characters: re.Pattern[str], text: str) -> str:
    return characters.sub(lambda match: quote(match[0]), text)


def _without_dots(path: str) -> str:
    """The path without its `.` and `..` segments, in any quoting (RFC 3986, 5.2.4)."""
    kept: list[str] = []
    dots = ""
    for segment in path.split("/"):
        dots = segment.lower().replace("%2e", ".")
        if dots == "..":
            kept = kept[:1] + kept[1:-1]
        elif dots != ".":
            kept.append(segment)
    return "/".join([*kept, ""] if dots in {".", ".."} else kept)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
