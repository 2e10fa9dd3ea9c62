"""How the values of settings are written, and what they must be; for pydantic."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, BeforeValidator, SecretStr

from consumer.fetch.addresses import check_store

T = TypeVar("T")

#: What librdkafka takes before the address of a broker.
_PROTOCOLS: Final = frozenset({"plaintext", "ssl", "sasl_plaintext", "sasl_ssl"})
_NOT_IN_HOST: Final = re.compile(r"[\s,;]")
_NOT_IN_ADDRESS: Final = re.compile(r"[/?#@]")


def checked_by(check: Callable[[Any], object]) -> AfterValidator:
    """Refuses a value, unless it is None, for which `check` raises a ValueError."""

    def checked(value: T) -> T:
        if value is not None:
            check(value)
        return value

    return AfterValidator(checked)


def check_brokers(value: str) -> None:
    """Addresses with commas between them, each perhaps behind a protocol, as librdkafka takes them.

    Raises:
        ValueError: one is none.
    """
    for server in value.split(","):
        protocol, mark, address = server.strip().rpartition("://")
        if mark and protocol.lower() not in _PROTOCOLS:
            raise ValueError(f"a broker is host:port, or one of {', '.join(sorted(_PROTOCOLS))} before ://host:port")
        if not _is_address(address) or _NOT_IN_ADDRESS.search(address):
            raise ValueError("not host:port, or several with commas between them")


def check_triton(value: str) -> None:
    """The address of Triton's gRPC endpoint, as gRPC takes it.

    Raises:
        ValueError: it is a URL for browsers.
    """
    if not value or value.endswith("/") or re.match(r"(https?|grpcs?)://", value, re.IGNORECASE):
        raise ValueError("write host:port of the gRPC endpoint, without http:// and /")


def check_key(value: SecretStr) -> None:
    """A key that is sent as a header of gRPC.

    Raises:
        ValueError: headers cannot hold it.
    """
    key = value.get_secret_value()
    if not (key.isascii() and key.isprintable()) or key != key.strip():
        raise ValueError("a header cannot hold it: only printable ASCII, without blanks at its ends")


def check_collector(value: str) -> None:
    """The URL of a collector that takes OTLP over HTTP.

    Raises:
        ValueError: it is none, or has a secret in it, which belongs into `tracing.headers`.
    """
    _check_http(value, "a collector that takes OTLP over HTTP", "tracing.headers")


def check_registry(value: str) -> None:
    """URLs of a schema registry, with commas between them.

    Raises:
        ValueError: one is none, or has a secret in it, which belongs into `registry.password`.
    """
    for url in value.split(","):
        _check_http(url.strip(), "a schema registry", "registry.user and registry.password")


def _check_http(value: str, whose: str, secrets: str) -> None:
    try:
        parts = urlsplit(value)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or _NOT_IN_HOST.search(value):
        raise ValueError(f"not http://host:port or https://host:port of {whose}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"only scheme, host, port and path; a secret stands in {secrets}")


def check_redis(value: str) -> None:
    """The URL of a Redis.

    Raises:
        ValueError: it is none.
    """
    scheme, _, place = value.partition("://")
    place = place.rpartition("@")[2]
    fits = place.startswith("/") if scheme == "unix" else scheme in {"redis", "rediss"} and _is_database(place)
    if not fits:
        raise ValueError("not redis://host:port/number, rediss:// with TLS, or unix:///path of a socket")
    if not _ends_password_at_host(value):
        raise ValueError("percent-encode what is special in the password: / ? # [ ] are %2F %3F %23 %5B %5D")


def check_stores(value: dict[str, dict[str, str]]) -> None:
    """Buckets and the options of their clients.

    Raises:
        ValueError: one cannot be opened so.
    """
    for name, options in value.items():
        check_store(name, options)


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _stores(value: object) -> object:
    """Buckets are written `a,b` in the environment or as a list; with options, as JSON or tables.

    Raises:
        ValueError: it starts like JSON and is not.
    """
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return orjson.loads(value)
        except ValueError:
            raise ValueError('write s3://a,s3://b or {"s3://a": {"region": "eu-central-1"}}') from None
    names = _listed(value)
    return {name: {} for name in names} if isinstance(names, list | tuple) else names


def by_whole_names(table: Mapping[str, object]) -> dict[str, object]:
    """The values of a table and of the tables in it, as `a.b`: without quotes, TOML reads `a.b = "c"` as such."""
    flat: dict[str, object] = {}
    for name, value in table.items():
        inner = by_whole_names(value) if isinstance(value, dict) else {"": value}
        flat |= {f"{name}.{rest}".rstrip("."): held for rest, held in inner.items()}
    return flat


def _properties(value: object) -> object:
    """The properties of librdkafka; an empty variable has none.

    Raises:
        ValueError: the value of one has none of the types that it may have.
    """
    if not isinstance(value, dict):
        return value or {}
    flat = by_whole_names(value)
    odd = next((name for name, held in flat.items() if not isinstance(held, str | int | float)), None)
    if odd is not None:
        raise ValueError(f"{odd}: a property is a text, a number, true or false")
    return flat


def _option(value: object) -> object:
    """The clients of stores read texts where TOML and JSON have booleans and numbers."""
    return str(value).lower() if isinstance(value, bool | int) else value


def _is_database(place: str) -> bool:
    """Whether it is an address, perhaps with the number of a database and options; the client reads no number as 0."""
    address, _, number = place.partition("?")[0].partition("/")
    return _is_address(address) and (not number or number.isdecimal())


def _ends_password_at_host(url: str) -> bool:
    """Whether clients find the host behind the password: with a `/`, `?` or `#` in it, it ends there for them."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - parsed on access
    except ValueError:
        return False
    options = "" if "=" in parts.query.partition("@")[0] else parts.query
    return parts.scheme == "unix" or "@" not in parts.path + options + parts.fragment


def _is_address(text: str) -> bool:
    """Whether a text begins with a host and, where it has one, a port."""
    try:
        parts = urlsplit(f"//{text}")
        return bool(parts.hostname) and parts.port != 0 and not _NOT_IN_HOST.search(text)
    except ValueError:
        return False


#: Lists are written `a,b` in the environment, and as TOML lists in the file.
CommaSeparated = BeforeValidator(_listed)
#: No environment can say that a value is absent.
EmptyIsNone = BeforeValidator(lambda value: None if value == "" else value)
Stores = BeforeValidator(_stores)
StoreOption = BeforeValidator(_option)
Properties = BeforeValidator(_properties)
