"""The URL of a Redis, as its client reads it."""

import ssl
from typing import Any, Final
from urllib.parse import urlsplit

from redis import ConnectionPool
from redis.exceptions import RedisError

from consumer.errors import SettingsError

DEFAULT_PORT: Final = 6379
_SETTING: Final = "redis.url"


def readable(url: str) -> str:
    """The URL, of which the client can make a connection.

    Raises:
        SettingsError: it has a password that no URL can hold, an option that is unknown or has a value that is none, or
            names files of TLS that cannot be used. Nothing of the password is in the message.
    """
    try:
        urlsplit(url).port  # noqa: B018 - parsed on access
    except ValueError:
        # The words of the parser quote what stands where it looks for a port: a piece of the password.
        told = "percent-encode what is special in the password: / ? # [ ] are %2F %3F %23 %5B %5D"
        raise SettingsError(told, setting=_SETTING) from None
    try:
        connection = ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError, RedisError) as error:
        raise SettingsError(f"an option behind its ? is wrong: {error}", setting=_SETTING) from None
    if urlsplit(url).scheme == "rediss":
        _check_files(connection)
    return url


def server_of(url: str) -> str:
    """Where a URL leads, without user, password and options: `h:6379`, `rediss://h:6379`, or the path of a socket."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    host = parts.hostname or "localhost"
    address = f"[{host}]" if ":" in host else host
    return f"{'rediss://' if parts.scheme == 'rediss' else ''}{address}:{parts.port or DEFAULT_PORT}"


def _check_files(connection: Any) -> None:  # noqa: ANN401 - its attributes have no types
    """Reads what a connection over TLS will read; the client would name no file.

    Raises:
        SettingsError: one cannot be read, or is not what it should be.
    """
    context = ssl.create_default_context()
    authorities, own, key = connection.ca_certs or connection.ca_path, connection.certfile, connection.keyfile
    try:
        if authorities:
            context.load_verify_locations(connection.ca_certs, connection.ca_path)
    except OSError as error:
        raise SettingsError(f"ssl_ca_certs {authorities}: {_why(error)}", setting=_SETTING) from None
    if key and not own:
        raise SettingsError("ssl_keyfile goes with ssl_certfile", setting=_SETTING)
    try:
        if own:
            # Without a password here, that of an encrypted key would be asked for on the terminal.
            context.load_cert_chain(own, key, connection.certificate_password or "")
    except OSError as error:
        files = f"ssl_certfile {own}" + (f" and ssl_keyfile {key}" if key else "")
        raise SettingsError(f"{files}: {_why(error)}", setting=_SETTING) from None


def _why(error: OSError) -> str:
    """What is wrong with a file; OpenSSL's words are of its source code."""
    if isinstance(error, ssl.SSLError):
        return "it is not PEM, or its key is that of another one or has another ssl_password"
    return error.strerror or str(error)
