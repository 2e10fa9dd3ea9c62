"""The URL of a Redis, as its client reads it."""

from redis import ConnectionPool

from consumer.errors import SettingsError


def readable(url: str) -> str:
    """The URL, of which the client can make a connection.

    Raises:
        SettingsError: one of its options is unknown, or has a value that is none.
    """
    try:
        ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError) as error:
        raise SettingsError(f"an option behind its ? is wrong: {error}", setting="redis.url") from None
    return url
