"""Where a fetch may connect to: rules for addresses and host names. Pure.

A photo's URI is untrusted, so it must not reach what only the service can reach. The rule applies to the address that
is connected, after name resolution, and covers IPv6 forms that contain an IPv4 address.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The URI schemes of object stores, and the endpoint option of each one's client.
STORE_ENDPOINTS: Final = {"s3": "endpoint", "gs": "base_url", "az": "endpoint"}
_BUCKET: Final = re.compile(r"(s3|gs|az)://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", re.ASCII)
_URL: Final = re.compile(r"https?://(?P<user>[^/?#\\\[\]\s]*@)?(?P<place>[^/?#@\s]+)(?P<path>/[^?#\s]*)?", re.ASCII)
_PLACE: Final = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:/@?#\s]+)(:(?P<port>\d{1,5}))?", re.ASCII)
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}", re.ASCII)
#: The label separators of IDNA.
_DOTS: Final = re.compile("[.\u3002\uff0e\uff61]")
_NUMBER: Final = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII)
_MAX_PORT: Final = 65_535
_MAX_HOST: Final = 253


def _table(kinds: dict[str, tuple[str, ...]]) -> tuple[tuple[Network, str], ...]:
    return tuple((ipaddress.ip_network(network), kind) for kind, networks in kinds.items() for network in networks)


#: Refused even if allowed by name: they return the credentials of the machine.
_NEVER: Final = _table(
    {
        "link-local": ("169.254.0.0/16", "fe80::/10"),
        "metadata": (
            "fd00:ec2::/32",  # AWS
            "fd20:ce::254/128",  # Google
            "168.63.129.16/32",  # Azure, in public space
            "100.100.100.200/32",  # Alibaba
            "192.0.0.192/32",  # Oracle
        ),
    }
)
#: The IANA special-purpose registries; refused unless allowed by name.
_REFUSED: Final = _table({
    "unspecified": ("0.0.0.0/8", "::/128"),
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    "shared (carrier-grade NAT)": ("100.64.0.0/10",),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "reserved": (
        "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20",
    ),
})  # fmt: skip
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_TEREDO: Final = ipaddress.IPv6Network("2001::/32")
_SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")
#: Prefixes whose last 32 bits are the IPv4 address that is finally reached.
_CARRIERS: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "::/96")
)
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})


@dataclass(frozen=True, slots=True)
class AllowList:
    """The private places that may be fetched from: networks, and hosts or addresses on one port."""

    networks: tuple[Network, ...] = ()
    endpoints: frozenset[tuple[str, int]] = frozenset()


def parse_allow_list(entries: Iterable[str]) -> AllowList:
    """The allow-list in `host:port`, `address:port`, `[address]:port` and CIDR entries.

    Raises:
        ValueError: an entry is none of these; the message shows it and what it may be.
    """
    networks: list[Network] = []
    endpoints: set[tuple[str, int]] = set()
    for entry in entries:
        try:
            if "/" in entry:
                networks.append(ipaddress.ip_network(entry))
            else:
                endpoints.add(_endpoint(entry))
        except ValueError as error:
            raise ValueError(
                f"allowed address {entry!r}: {error}; write host:port, address:port, [IPv6 address]:port or a CIDR "
                "network such as 10.20.0.0/16"
            ) from None
    return AllowList(tuple(networks), frozenset(endpoints))


def refusal(address: str, host: str, port: int, allowed: AllowList) -> str | None:
    """Why no connection may be made to this address, None if it may.

    `address` is what the name `host` was resolved to, or the literal in the URL. An IPv6 address that contains an IPv4
    address is refused for either of them.
    """
    carrier = ipaddress.ip_address(address.partition("%")[0])
    parts = (carrier, *embedded(carrier))
    if kind := _kind(parts, _NEVER):
        return kind
    if (canonical_host(host), port) in allowed.endpoints:
        return None
    for part in parts:
        kind = _kind((part,), _REFUSED) or _outside(part)
        named = (str(part), port) in allowed.endpoints or any(part in network for network in allowed.networks)
        if kind and not named:
            return kind
    return None


def embedded(address: Address) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 addresses inside an IPv6 one: mapped, compatible, translated, NAT64, 6to4, Teredo and ISATAP."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    bits = int(address)
    low = bits & 0xFFFF_FFFF
    found: list[int] = []
    if any(address in carrier for carrier in _CARRIERS) and bits > 1:
        found.append(low)
    if address in _SIX_TO_FOUR:
        found.append(bits >> 80 & 0xFFFF_FFFF)
    if address in _TEREDO:
        found += [bits >> 64 & 0xFFFF_FFFF, low ^ 0xFFFF_FFFF]
    if bits >> 32 & 0xFFFF_FFFF in _ISATAP:
        found.append(low)
    return tuple(map(ipaddress.IPv4Address, found))


def check_store(name: str, options: Mapping[str, str]) -> None:
    """Checks a configured bucket.

    Its endpoint may be private, since the operator configured it, but not a metadata service.

    Raises:
        ValueError: why it cannot be a bucket.
    """
    if not _BUCKET.fullmatch(name):
        raise ValueError(f"{name!r} is not a bucket: write s3://bucket, gs://bucket or az://container")
    endpoint = options.get(STORE_ENDPOINTS[name[:2]])
    if endpoint is None:
        return
    match = _URL.fullmatch(endpoint)
    try:
        host, _ = _host_and_port("" if match is None or match["user"] else match["place"])
    except ValueError:
        raise ValueError(f"{name}: the endpoint is http://host:port or https://host:port") from None
    address = literal(host)
    if address is not None and (kind := _kind((address, *embedded(address)), _NEVER)):
        raise ValueError(f"{name}: the endpoint's address is {kind}")


def check_proxy(proxy: str) -> None:
    """Checks the URL of the egress proxy.

    Raises:
        ValueError: it cannot be parsed; the message contains nothing of it, since it may hold a password.
    """
    match = _URL.fullmatch(proxy)
    try:
        _host_and_port("" if match is None or match["path"] not in {None, "/"} else match["place"])
    except ValueError:
        raise ValueError(
            "the proxy is http://host:port or https://host:port, with user:password@ where it needs it, percent-encoded"
        ) from None


def canonical_host(host: str) -> str:
    """The canonical spelling of a host: lower case, without the trailing dot, addresses in their short form.

    Names that are not ASCII must be A-labels (`xn--...`), as `a_labels` returns them. Spellings of IPv4 addresses that
    only some resolvers accept (`2130706433`, `0x7f.1`, `127.1`, `0177.0.0.1`) are refused.

    Raises:
        ValueError: why it is not a host.
    """
    if host.startswith("[") or ":" in host:
        return _canonical_v6(host)
    name = host.lower().removesuffix(".")
    if not name:
        raise ValueError("no host")
    labels = name.split(".")
    if len(name) > _MAX_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("a host name has labels of 1 to 63 letters, digits and hyphens, 253 in all")
    if _NUMBER.fullmatch(labels[-1]) and literal(host) is None:
        raise ValueError("an IPv4 address is written as four decimal numbers")
    return name


def a_labels(host: str) -> str:
    """The host with each label that is not ASCII as its A-label (`xn--...`).

    Label by label: one that is not valid in IDNA, such as `a_`, must not change how the others are encoded.

    Raises:
        ValueError: a label cannot be encoded.
    """
    if host.isascii():
        return host
    # Imported late: seldom needed, and the command line must start fast.
    from yarl import URL  # noqa: PLC0415

    labels = _DOTS.split(host)
    return ".".join(label if label.isascii() else URL(f"//{label}").raw_host or "" for label in labels)


def literal(host: str) -> Address | None:
    """The address in a canonical host, None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _canonical_v6(host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ValueError("an IPv6 address cannot be read") from None
    if address.scope_id is not None:
        raise ValueError("an IPv6 address has no zone here")
    return str(address)


def _endpoint(entry: str) -> tuple[str, int]:
    host, port = _host_and_port(entry)
    if port is None:
        raise ValueError("the port is missing")
    return host, port


def _host_and_port(place: str) -> tuple[str, int | None]:
    """The canonical host of `host:port`, `[IPv6 address]:port` or a host alone, and the port.

    Raises:
        ValueError: it is none of these.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        raise ValueError("it is not a host with its port")
    port = None if match["port"] is None else int(match["port"])
    if port is not None and not 0 < port <= _MAX_PORT:
        raise ValueError(f"ports are 1 to {_MAX_PORT}")
    host = a_labels(match["host"])
    return canonical_host(host), port


def _kind(addresses: Iterable[Address], table: tuple[tuple[Network, str], ...]) -> str | None:
    return next((kind for address in addresses for network, kind in table if address in network), None)


def _outside(address: Address) -> str | None:
    """Refuses IPv6 outside the global unicast space, except forms that contain an IPv4 address, which is checked."""
    if isinstance(address, ipaddress.IPv4Address) or address in _GLOBAL_V6 or embedded(address):
        return None
    return "reserved"
