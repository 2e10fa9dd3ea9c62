"""What counts as a failure of Redis, its mapping to `DependencyDown`, and what is the fault of a single key instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeGuard

from redis.exceptions import RedisError, ResponseError

from consumer.errors import DependencyDown

#: A failure of Redis or of the connection; a timeout is an OSError.
FAILURES: Final = (RedisError, OSError)
#: What else to say of a failure that has this text.
_ADVICE: Final = {
    "WRONG_VERSION_NUMBER": "the port does not speak TLS: redis:// instead of rediss://",
    "CERTIFICATE_VERIFY_FAILED": "the certificate is signed by none of ssl_ca_certs, of another name, or expired",
    "CERTIFICATE_REQUIRED": "the server wants a certificate of the client: ssl_certfile and ssl_keyfile",
    "Authentication required": "the URL has no password: redis://user:password@host:port",
    "no permissions": "docs/security.md lists the commands and keys that the user needs",
}
#: How a server hangs up on a client that does not speak TLS.
_HUNG_UP: Final = ("Connection closed by server", "Connection reset by peer")


def is_wrong_type(reply: object) -> TypeGuard[ResponseError]:
    """Whether a reply says that the key holds another type: somebody else wrote to it, and Redis is well."""
    return isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")


@contextmanager
def redis_failures(server: str) -> Iterator[None]:
    """Maps every failure: none is the photo's fault, since keys and arguments are always well-formed.

    That includes `maxmemory` with noeviction, a replica, a loading server, a cluster without one of its masters,
    refused credentials and commands that the user may not call. A key of another type is none (`is_wrong_type`).
    `server` is the one that the URL names, as `server_of`.

    Raises:
        DependencyDown: for each of them.
    """
    try:
        yield
    except FAILURES as error:
        raise DependencyDown("redis", explain(server, error)) from None


def explain(server: str, error: Exception) -> str:
    """One line on a failure: which server, what it says, and what that may mean."""
    text = f"{type(error).__name__}: {error}"
    advice = [told for sign, told in _ADVICE.items() if sign in text]
    if not server.startswith(("rediss:", "/")) and any(sign in text for sign in _HUNG_UP):
        advice.append("perhaps the port wants TLS: rediss:// instead of redis://")
    return "; ".join([f"{server}: {text}", *advice])
