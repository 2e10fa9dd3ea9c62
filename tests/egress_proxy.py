"""A small egress proxy on a real socket."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator

from tests.photo_host import Host, serving


class Proxy:
    """An egress proxy as companies run them: CONNECT for https, whole URLs for http, a password, a list of the refused.

    It leads every name to the one photo host that there is.
    """

    def __init__(self, target: Host, password: str = "") -> None:
        self.port = 0
        self.requests: list[str] = []
        self.refused: dict[str, int] = {}
        self._target = target
        self._password = password

    @property
    def url(self) -> str:
        return f"http://{self._password}{'@' if self._password else ''}127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, _, headers = head.partition(b"\r\n")
        self.requests.append(line.decode())
        method, place, _ = line.decode().split()
        wanted = base64.b64encode(self._password.encode())
        if self._password and b"Proxy-Authorization: Basic " + wanted not in headers:
            writer.write(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
        elif place in self.refused:
            writer.write(f"HTTP/1.1 {self.refused[place]} No\r\nContent-Length: 0\r\n\r\n".encode())
        else:
            await self._pass_on(method, place, headers, reader, writer)
        await writer.drain()

    async def _pass_on(
        self, method: str, place: str, headers: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        inside, outside = await asyncio.open_connection(self._target.address, self._target.port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = "/" + place.split("/", 3)[3]
            outside.write(f"GET {path} HTTP/1.1\r\n".encode() + headers)
        with contextlib.closing(outside):
            await asyncio.gather(_pump(reader, outside), _pump(inside, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()


@contextlib.asynccontextmanager
async def proxying(target: Host, password: str = "") -> AsyncIterator[Proxy]:
    proxy = Proxy(target, password)
    async with serving(proxy.handle) as proxy.port:
        yield proxy
