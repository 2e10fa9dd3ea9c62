"""Where a fetch may connect to: rules over addresses and host names. Pure.

A photo's URI is written by others, so it must not reach what only we can reach. The rule is asked for the address that
is being connected, after name resolution, and looks into IPv6 forms that carry an IPv4 address.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The kinds of object stores, and what the client of each calls its address.
STORE_ENDPOINTS: Final = {"s3": "endpoint", "gs": "base_url", "az": "endpoint"}
_BUCKET: Final = re.compile(r"(s3|gs|az)://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", re.ASCII)
_ENDPOINT: Final = re.compile(r"https?://(?P<host>\[[^\]]+\]|[^\[\]:/@?#\s]+)(:\d{1,5})?(/[^?#\s]*)?", re.ASCII)
_PORT: Final = re.compile(r"(?P<host>\[[^\]]+\]|[^\[\]:/@?#\s]+):(?P<port>\d{1,5})", re.ASCII)
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}", re.ASCII | re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII | re.IGNORECASE)
_MAX_PORT: Final = 65_535
_MAX_HOST: Final = 253

#: Refused even where allowed by name: they hand out the credentials of the machine.
_NEVER: Final = {
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "metadata": (
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254/128",  # Google
        "168.63.129.16/32",  # Azure, in public space
        "100.100.100.200/32",  # Alibaba
        "192.0.0.192/32",  # Oracle
    ),
}
#: The IANA special-purpose registries; refused unless allowed by name.
_REFUSED: Final = {
    "unspecified": ("0.0.0.0/8", "::/128"),
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    "shared (carrier-grade NAT)": ("100.64.0.0/10",),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "reserved": (
        "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20",
    ),
}  # fmt: skip
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_TEREDO: Final = ipaddress.IPv6Network("2001::/32")
_SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")
#: Prefixes whose last 32 bits are the IPv4 address that is reached in the end.
_CARRIERS: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "::/96")
)
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})


def _table(kinds: dict[str, tuple[str, ...]]) -> tuple[tuple[Network, str], ...]:
    return tuple((ipaddress.ip_network(network), kind) for kind, networks in kinds.items() for network in networks)


_NEVER_TABLE: Final = _table(_NEVER)
_REFUSED_TABLE: Final = _table(_REFUSED)


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
        if "/" in entry:
            networks.append(_network(entry))
        else:
            endpoints.add(_endpoint(entry))
    return AllowList(tuple(networks), frozenset(endpoints))


def refusal(address: str, host: str, port: int, allowed: AllowList) -> str | None:
    """Why no connection may be made to this address, None where it may.

    `address` is what the name `host` was resolved to, or the literal in the URL. An address that carries an IPv4
    address is refused for either of them.
    """
    carrier = ipaddress.ip_address(address.partition("%")[0])
    parts = (carrier, *embedded(carrier))
    for part in parts:
        if kind := _kind(part, _NEVER_TABLE):
            return kind
    if (host_key(host), port) in allowed.endpoints:
        return None
    for part in parts:
        kind = _kind(part, _REFUSED_TABLE) or _outside(part)
        if kind and not _is_allowed(part, port, allowed):
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


def store_fault(name: str, options: Mapping[str, str]) -> str | None:
    """Why a configured bucket is none, None where it is one.

    Its endpoint may be private, since it was named by the operator, but metadata services are no stores for anybody.
    """
    if not _BUCKET.fullmatch(name):
        return f"{name!r} is no bucket: write s3://bucket, gs://bucket or az://container"
    endpoint = options.get(STORE_ENDPOINTS[name[:2]])
    if endpoint is None:
        return None
    match = _ENDPOINT.fullmatch(endpoint)
    host = match["host"].strip("[]") if match else ""
    if host_fault(host):
        return f"{name}: the endpoint is http://host:port or https://host:port"
    try:
        why = refusal(host, host, 0, AllowList(endpoints=frozenset({(host_key(host), 0)})))
    except ValueError:
        return None
    return why and f"{name}: the endpoint's address is {why}"


def host_fault(host: str) -> str | None:
    """Why a host name is none, None where it is one.

    Spellings of IPv4 addresses that only some resolvers read (`2130706433`, `0x7f.1`, `127.1`, `0177.0.0.1`) are
    refused: a name that ends in a number is either four plain decimals or an attempt to hide something.
    """
    if not host:
        return "no host"
    if ":" in host:
        return None
    labels = host.removesuffix(".").split(".")
    if len(host) > _MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        return "a host name has labels of 1 to 63 letters, digits and hyphens, 253 in all"
    if not _NUMBER.fullmatch(labels[-1]):
        return None
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return "an IPv4 address is written as four decimal numbers"
    return None


def host_key(host: str) -> str:
    """A host name or address in one spelling, for comparing."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return host.lower().removesuffix(".")


def _network(entry: str) -> Network:
    try:
        return ipaddress.ip_network(entry)
    except ValueError as error:
        raise ValueError(f"allowed address {entry!r} is no CIDR network: {error}") from None


def _endpoint(entry: str) -> tuple[str, int]:
    match = _PORT.fullmatch(entry)
    if match is None or not 0 < int(match["port"]) <= _MAX_PORT:
        raise ValueError(
            f"allowed address {entry!r} is none: write host:port, address:port, [IPv6 address]:port or a CIDR network "
            "such as 10.20.0.0/16"
        )
    host = match["host"]
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError as error:
            raise ValueError(f"allowed address {entry!r} is none: {error}") from None
    elif fault := host_fault(host):
        raise ValueError(f"allowed address {entry!r} is none: {fault}")
    return host_key(host), int(match["port"])


def _kind(address: Address, table: tuple[tuple[Network, str], ...]) -> str | None:
    return next((kind for network, kind in table if address in network), None)


def _outside(address: Address) -> str | None:
    """IPv6 outside the global unicast space is refused, except the forms that are judged by what they carry."""
    if isinstance(address, ipaddress.IPv4Address) or address in _GLOBAL_V6 or embedded(address):
        return None
    return "reserved"


def _is_allowed(address: Address, port: int, allowed: AllowList) -> bool:
    return (str(address), port) in allowed.endpoints or any(address in network for network in allowed.networks)
