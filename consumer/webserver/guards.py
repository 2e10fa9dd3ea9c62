"""What every answer is held to: which hosts are asked for, what may change something, what browsers may do.

The pages ask nobody who they are, so whoever reaches the address may read them. What a person's browser must not become
is a way in for other sites: a name that they point at this address (DNS rebinding) is refused, and so is a form that
they send.
"""

import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Collection
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from consumer.errors import SettingsError
from consumer.settings import Settings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LOCAL: Final = frozenset({"localhost"})
#: Everything comes from this server; a page that brings its style along says so itself.
POLICY: Final = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Server": "photo-tagger",
}
_SAFE: Final = frozenset({"GET", "HEAD"})
TOKEN_FIELD: Final = "form"  # noqa: S105 - the name of a field


def check_address(settings: Settings) -> None:
    """Refuses an address that other machines reach, unless that is wanted.

    Raises:
        SettingsError: `web.host` is not loopback, and `web.open_to_network` is false.
    """
    asked = settings.web
    if not asked.open_to_network and not _is_loopback(asked.host):
        raise SettingsError(
            f"{asked.host or 'every address'} is reached by other machines, and the pages ask nobody who they are: "
            "set web.open_to_network=true if that is wanted, or leave it at 127.0.0.1",
            setting="web.host",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in _LOCAL


class Guards:
    """The checks of requests and the headers of answers; `token` is what forms of this server carry."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = _LOCAL | {name.lower() for name in names}
        self.token = secrets.token_urlsafe(32)

    @web.middleware
    async def checked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answers what passes the checks, with the headers that hold browsers to it."""
        refusal = self.refusal(request.method, request.headers.get("Host", ""))
        if refusal is not None:
            answer: web.StreamResponse = web.Response(status=421 if request.method in _SAFE else 403, text=refusal)
        else:
            answer = await handler(request)
        for name, value in _HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    def refusal(self, method: str, host: str) -> str | None:
        """Why a request is not answered at all; None where it is.

        An address cannot be rebound: only names are looked up.
        """
        if method not in _SAFE | {"POST"}:
            return "this server answers GET, HEAD and POST\n"
        name = _name_in(host)
        if name is None or not (name in self._names or _is_address(name)):
            return "this host name is not served here: name it in web.names, or ask for the address\n"
        return None

    def may_change(self, request: web.Request, token: str) -> bool:
        """Whether a form was sent from a page of this server."""
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("Host", "").lower():
            return False
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            return False
        return hmac.compare_digest(token.encode(errors="replace"), self.token.encode())


def _name_in(host: str) -> str | None:
    """The name or address in a Host header, without its port; None where it has none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
