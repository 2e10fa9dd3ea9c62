"""A photo host on a real socket that answers as it is told, and a fetcher that asks it."""

import asyncio
import contextlib
import resource
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from consumer.errors import PhotoRejected, Retryable
from consumer.events import PhotoUploaded
from consumer.fetch.fetcher import Fetcher
from consumer.fetch.limits import FetchLimits

BODY = b"\xff\xd8\xff" + bytes(range(256)) * 300
SECRET = "?X-Signature=0123456789abcdef&token=hunter2"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Answer = bytes | Handler


def response(status: str, body: bytes = b"", **headers: object) -> bytes:
    headers = {"Content-Length": len(body)} | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [
        f"HTTP/1.1 {status}",
        *(f"{name}: {value}" for name, value in headers.items() if value is not None),
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return response(status, Location=location)


class Host:
    """A photo host that answers each path with the bytes or the behaviour that it was given."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.answers: dict[str, Answer] = {}
        self.requests: list[bytes] = []
        self.released = asyncio.Event()
        self.terminator = b"\r\n\r\n"

    def url(self, path: str = "/photo.jpg", host: str | None = None) -> str:
        return f"http://{host or self.address}:{self.port}{path}"

    def serve(self, path: str, answer: Answer) -> str:
        self.answers[path] = answer
        return self.url(path)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(self.terminator)
        self.requests.append(head)
        path = head.split()[1].decode().partition("?")[0] if len(head) > 1 else ""
        answer = self.answers.get(path, response("404 Not Found"))
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
        else:
            await answer(reader, writer)

    async def hang(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.released.wait()
        writer.close()


@contextlib.asynccontextmanager
async def serving(handle: Handler, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A TCP server on a free port, which is yielded; its connections end with it."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handle(reader, writer)

    server = await asyncio.start_server(lambda r, w: tasks.add(asyncio.create_task(serve(r, w))), address, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def hosting(address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Host]:
    host = Host(address, 0)
    async with serving(host.handle, address, tls) as host.port:
        yield host
    host.released.set()


def without_ipv6() -> bool:
    """Whether this machine has no IPv6 loopback address, as some containers have none."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return False
    except OSError:
        return True


async def until(condition: Callable[[], object]) -> None:
    """Polls, for what happens in threads."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - no event is set there
            await asyncio.sleep(0.001)


def event(uri: str, sha256: str | None = None) -> PhotoUploaded:
    return PhotoUploaded("p1", uri, datetime(2026, 11, 21, tzinfo=UTC), content_sha256=sha256)


def limits_for(host: Host, **changes: object) -> FetchLimits:
    defaults = {"schemes": ("https", "http"), "allow_addresses": (f"{host.address}:{host.port}",)}
    return FetchLimits(**(defaults | changes))


async def fetch(
    uri: str, limits: FetchLimits, resolver: AbstractResolver | None = None, sha256: str | None = None
) -> bytes:
    async with Fetcher(limits, resolver=resolver) as fetcher:
        photo = await fetcher.fetch(event(uri, sha256))
    assert photo.photo_id == "p1"
    assert photo.uri == uri
    return photo.body


def files_of(error: BaseException) -> set[str]:
    """The source files whose frames an error, and what it came from, keep alive."""
    found, errors = set(), [error]
    while errors:
        one = errors.pop()
        found |= {Path(frame.f_code.co_filename).name for frame, _ in traceback.walk_tb(one.__traceback__)}
        errors += [other for other in (one.__cause__, one.__context__) if other is not None]
    return found


async def failure(
    uri: str, limits: FetchLimits, resolver: AbstractResolver | None = None, sha256: str | None = None
) -> PhotoRejected | Retryable:
    with pytest.raises((PhotoRejected, Retryable)) as caught:
        await fetch(uri, limits, resolver, sha256)
    assert "hunter2" not in str(caught.value)
    assert "X-Signature" not in str(caught.value)
    return caught.value


async def rejected(
    uri: str, limits: FetchLimits, resolver: AbstractResolver | None = None, sha256: str | None = None
) -> str:
    error = await failure(uri, limits, resolver, sha256)
    assert isinstance(error, PhotoRejected), error
    return error.reason


async def retryable(uri: str, limits: FetchLimits, resolver: AbstractResolver | None = None) -> str:
    error = await failure(uri, limits, resolver)
    assert isinstance(error, Retryable), error
    return error.reason


class Names(AbstractResolver):
    """A DNS server that gives each name its answers in turn, the last one for ever."""

    def __init__(self, **answers: list[str]) -> None:
        self._answers = {name.replace("_", "."): list(addresses) for name, addresses in answers.items()}
        self.asked: list[str] = []

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - the interface's
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self._answers.get(host.lower())
        if not answers:
            raise OSError(None, "Name or service not known")
        address = answers.pop(0) if len(answers) > 1 else answers[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
        ]

    async def close(self) -> None:
        pass


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """This process may open nothing more, also where another thread closes something meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Numbers must be below it, and 0 is taken; what is open stays. At 0 itself, poll() would fail for one descriptor.
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
