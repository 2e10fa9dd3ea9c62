"""How the values of settings are written, and what they must be; for pydantic."""

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, BeforeValidator

from consumer.fetch.addresses import check_store

T = TypeVar("T")


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
    if not all(_is_address(server.strip().rpartition("://")[2]) for server in value.split(",")):
        raise ValueError("not host:port, or several with commas between them")


def check_redis(value: str) -> None:
    """The URL of a Redis.

    Raises:
        ValueError: it is none.
    """
    scheme, _, place = value.partition("://")
    # The password may hold anything, and a socket has no port.
    if scheme not in {"redis", "rediss", "unix"} or not (scheme == "unix" or _is_address(place.rpartition("@")[2])):
        raise ValueError("not redis://host:port/number, rediss:// with TLS, or unix:///path of a socket")


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


def _option(value: object) -> object:
    """The clients of stores read texts where TOML and JSON have booleans and numbers."""
    return str(value).lower() if isinstance(value, bool | int) else value


def _is_address(text: str) -> bool:
    """Whether a text begins with a host and, where it has one, a port."""
    try:
        parts = urlsplit(f"//{text}")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


#: Lists are written `a,b` in the environment, and as TOML lists in the file.
CommaSeparated = BeforeValidator(_listed)
#: No environment can say that a value is absent.
EmptyIsNone = BeforeValidator(lambda value: None if value == "" else value)
Stores = BeforeValidator(_stores)
StoreOption = BeforeValidator(_option)
