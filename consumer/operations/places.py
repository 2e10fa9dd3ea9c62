"""Where a URI leads and which setting allows it, for people; the fetch itself checks again when it connects."""

import asyncio
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from yarl import URL

from consumer.errors import PhotoRejected
from consumer.fetch.addresses import STORE_ENDPOINTS, AllowList, parse_allow_list, refusal
from consumer.fetch.urls import host_of, origin, parsed, shown
from consumer.settings import FetchSettings, mask_url, variable_of

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.ASCII | re.IGNORECASE)
_LOOKUP_S: Final = 5.0
#: Kinds of addresses that no setting allows.
_NEVER: Final = frozenset({"link-local", "metadata"})


@dataclass(frozen=True, slots=True)
class Reachable:
    """One address of a host, and why connections to it are refused; None where they are not."""

    address: str
    refused: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a photo would be fetched from; `allowed_by` is a setting that would allow it, with its value."""

    kind: Literal["path", "file", "web", "store", "unknown"]
    shown: str
    addresses: tuple[Reachable, ...] = ()
    through: str | None = None
    allowed_by: str | None = None


async def place_of(target: str, fetch: FetchSettings) -> Place:
    """Where a URI or the path of a file leads."""
    if not _SCHEME.match(target) or await asyncio.to_thread(Path(target).is_file):
        return Place("path", target)
    try:
        url = parsed(target)
    except PhotoRejected:
        return Place("unknown", target[:100])
    try:
        common = origin(url)
    except PhotoRejected:
        return Place("unknown", shown(url))
    proxy = None if fetch.proxy is None else mask_url(fetch.proxy)
    if url.scheme == "file":
        return Place("file", shown(url), allowed_by=_file_rule(fetch))
    if url.scheme in STORE_ENDPOINTS:
        rule = None if common in fetch.stores else _rule("stores", fetch.stores, common)
        return Place("store", shown(url), through=proxy, allowed_by=rule)
    return await _web_place(url, fetch, proxy)


async def _web_place(url: URL, fetch: FetchSettings, proxy: str | None) -> Place:
    if url.scheme not in fetch.schemes:
        return Place("web", shown(url), through=proxy, allowed_by=_rule("schemes", fetch.schemes, url.scheme))
    allowed = parse_allow_list(fetch.allow_addresses)
    addresses = await _addresses(url, allowed) if proxy is None else ()
    refused = {found.refused for found in addresses} - {None}
    rule = None
    if refused and not refused & _NEVER:
        rule = _rule("allow_addresses", fetch.allow_addresses, origin(url).partition("://")[2])
    return Place("web", shown(url), addresses, proxy, rule)


def _file_rule(fetch: FetchSettings) -> str:
    root = f"{variable_of('fetch.file_root')}={fetch.file_root or '/folder'}"
    return f"{_rule('schemes', fetch.schemes, 'file')} {root}"


def _rule(name: str, present: Iterable[str], one: str) -> str:
    """The setting with one more entry."""
    return f"{variable_of(f'fetch.{name}')}={','.join(dict.fromkeys((*present, one)))}"


async def _addresses(url: URL, allowed: AllowList) -> tuple[Reachable, ...]:
    host, port = host_of(url), url.port or 0
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LOOKUP_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return ()
    addresses = dict.fromkeys(str(info[4][0]) for info in found)
    return tuple(Reachable(address, refusal(address, host, port, allowed)) for address in addresses)
