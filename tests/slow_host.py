"""A file host on loopback that breaks off, refuses, asks for patience, and answers ranges: what downloads meet."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


@dataclass
class FileHost:
    """What it has, and what happened."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    #: Path to what its next requests meet: a status, "cut" (half of the body), "hang",
    #: "forget" (ignores ranges) or "shift" (sends another range than it was asked for).
    troubles: dict[str, deque[int | str]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    #: (time, path, Range header) of every request.
    requests: list[tuple[float, str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def trouble(self, path: str, *what: int | str) -> None:
        self.troubles[path] = deque(what)

    def wait_for_requests(self, count: int, deadline_s: float = 60) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests) >= count, deadline_s)

    def asked(self) -> Counter[str]:
        return Counter(path for _, path, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    host: ClassVar[FileHost]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        host, wanted = self.host, self.headers.get("Range", "")
        with host.arrived:
            host.requests.append((time.monotonic(), self.path, wanted))
            host.arrived.notify_all()
        waiting = host.troubles.get(self.path)
        trouble = waiting.popleft() if waiting else None
        if self.path in host.moved:
            self._answer(302, b"", Location=host.moved[self.path])
        elif trouble == "hang":
            host.released.wait(30)
        elif isinstance(trouble, int):
            self._answer(trouble, b"trouble")
        elif self.path not in host.files:
            self._answer(404, b"no such file")
        else:
            self._file(host.files[self.path], wanted, trouble)

    def _file(self, body: bytes, wanted: str, trouble: str | None) -> None:
        etag = f'"{hash(body)}"'
        start = int(wanted.removeprefix("bytes=").rstrip("-") or 0)
        if start and (trouble == "forget" or self.headers.get("If-Range") != etag):
            start = 0
        if start >= len(body) > 0:
            self._answer(416, b"")
            return
        cut = len(body) - (len(body) - start) // 2 if trouble == "cut" else None
        said = start + 1 if trouble == "shift" else start
        ranged = {"Content-Range": f"bytes {said}-{len(body) - 1}/{len(body)}"} if start else {}
        self._answer(206 if start else 200, body[start:cut], length=len(body) - start, ETag=etag, **ranged)

    def _answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def file_host(**files: bytes) -> Iterator[FileHost]:
    """A running host; names of files are their paths without the slash."""
    host = FileHost(files={f"/{name}": body for name, body in files.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"host": host}))
    host.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        host.released.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
