"""URLs of photos: parsing, checks of their form, and display without secrets. Pure."""

import re
from functools import lru_cache
from typing import Final

from yarl import URL

from consumer.errors import PhotoRejected
from consumer.fetch.addresses import STORE_ENDPOINTS, a_labels, canonical_host

HTTP: Final = frozenset({"http", "https"})
MAX_SHOWN: Final = 200
#: The part before the host of a URL, and a host that is not ASCII, up to its port; a user name is never taken for one.
_HOST: Final = re.compile(r"^([^:/?#]*://(?:[^/?#]*@)?+)([^/?#:\[\]@]*[^\x00-\x7f][^/?#:\[\]@]*)")
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")


def parsed(uri: str) -> URL:
    """The URL of an event or a redirect, its quoting unchanged, because requoting would break signed URLs.

    Raises:
        PhotoRejected: `url_not_allowed`.
    """
    if _CONTROL.search(uri):
        raise PhotoRejected("url_not_allowed", "the URI holds spaces or control characters")
    try:
        uri = _HOST.sub(lambda match: match[1] + a_labels(match[2]), uri, count=1)
        url = URL(uri, encoded=uri.isascii())
        url.port  # noqa: B018 - yarl parses the port on first access
    except ValueError:
        raise PhotoRejected("url_not_allowed", "the URI cannot be read as a URL") from None
    return url


def check_web(url: URL, schemes: tuple[str, ...]) -> None:
    """Rejects URLs that may not be requested over HTTP, whatever their address.

    Raises:
        PhotoRejected: `url_not_allowed`.
    """
    if url.scheme not in HTTP or url.scheme not in schemes:
        allowed = ", ".join(schemes)
        raise PhotoRejected("url_not_allowed", f"scheme {url.scheme[:20]!r} is not among the allowed ones ({allowed})")
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
        host = host_of(url)
        return f"{url.scheme}://{f'[{host}]' if ':' in host else host}:{url.port}"
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
    return f"{url.scheme}://{url.raw_host or ''}{port}{url.raw_path}"[:MAX_SHOWN]
