"""What counts as a failure of Redis, its mapping to `DependencyDown`, and what is the fault of a single key instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeGuard

from redis.exceptions import RedisError, ResponseError

from consumer.errors import DependencyDown
from consumer.redis.urls import server_of

#: A failure of Redis or of the connection; a timeout is an OSError.
FAILURES: Final = (RedisError, OSError)
_RIGHTS: Final = "docs/how-to/secure.md lists the commands and keys that the user needs"
_NO_LOGIN: Final = "the URL has no password: redis://user:password@host:port"
#: What else to say of a failure that has this text.
_ADVICE: Final = {
    "WRONG_VERSION_NUMBER": "the port does not speak TLS: redis:// instead of rediss://",
    "CERTIFICATE_VERIFY_FAILED": "the certificate is signed by none of ssl_ca_certs, of another name, or expired",
    "CERTIFICATE_REQUIRED": "the server wants a certificate of the client: ssl_certfile and ssl_keyfile",
    "Authentication required": _NO_LOGIN,
    "HELLO must be called": _NO_LOGIN,
    "no permissions": _RIGHTS,
    "user executing the script": _RIGHTS,
}
#: What a connection may end with that never worked, and what that may mean: in the clear, and over TLS.
_HUNG_UP: Final = ("Connection closed by server", "Connection reset by peer")
_GUESSES: Final = (
    (False, _HUNG_UP, "perhaps the port wants TLS: rediss:// instead of redis://"),
    (
        True,
        (*_HUNG_UP, "EOF occurred in violation of protocol"),
        "perhaps the server wants a certificate of the client: ssl_certfile and ssl_keyfile",
    ),
    # It waits for the end of the line that the client's greeting is to it.
    (True, ("Timeout connecting",), "perhaps the port does not speak TLS: redis:// instead of rediss://"),
)


def is_wrong_type(reply: object) -> TypeGuard[ResponseError]:
    """Whether a reply says that the key holds another type: somebody else wrote to it, and Redis is well."""
    return isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")


class Failures:
    """Maps the failures of the server that a URL names, in one line that names it and what may mend it.

    None is the photo's fault, since keys and arguments are always well-formed. That includes `maxmemory` with
    noeviction, a replica, a loading server, a cluster without one of its masters, refused credentials and commands that
    the user may not call. A key of another type is none (`is_wrong_type`).
    """

    def __init__(self, url: str) -> None:
        self._server = server_of(url)
        self._answered = False

    @contextmanager
    def mapped(self) -> Iterator[None]:
        """A call of Redis.

        Yields:
            Nothing.

        Raises:
            DependencyDown: for each failure.
        """
        try:
            yield
        except FAILURES as error:
            raise DependencyDown("redis", self._explained(error)) from None
        self._answered = True

    def _explained(self, error: Exception) -> str:
        text, tls = f"{type(error).__name__}: {error}", self._server.startswith("rediss:")
        advice = [told for sign, told in _ADVICE.items() if sign in text]
        # A server that answered before and hangs up is one that stops.
        if not (advice or self._answered):
            advice = [told for over_tls, signs, told in _GUESSES if over_tls == tls and any(s in text for s in signs)]
        return "; ".join([f"{self._server}: {text}", *advice])
