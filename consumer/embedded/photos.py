"""The embedded photo host: an HTTP server over a folder, on loopback."""

import functools
import http.server
import io
import threading
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self


class PhotoHost:
    """Serves the files of a folder at `base_url`, from threads of this process; a context manager."""

    def __init__(self, folder: Path) -> None:
        """Starts to serve; what is put into the folder later is served too."""
        handler = functools.partial(_Handler, directory=str(folder.absolute()))
        self._server = _PhotoServer(("127.0.0.1", 0), handler)
        #: Without a trailing slash.
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="photo-host", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops to serve and closes the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        """Returns the host; it serves already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Closes."""
        self.close()


class _PhotoServer(http.server.ThreadingHTTPServer):
    # A benchmark opens hundreds of connections at once.
    request_queue_size = 256
    # Else closing waits for every kept-alive connection.
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Keeps quiet about a client that went away."""


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in one segment.
    wbufsize = -1
    disable_nagle_algorithm = True
    timeout = 60

    def list_directory(self, path: object) -> io.BytesIO | None:
        """Refuses: a photo host has no listings."""
        self.send_error(HTTPStatus.NOT_FOUND)
        return None

    def translate_path(self, path: str) -> str:
        """Maps a URL to a file, and one that leads out of the folder, by a link too, to nothing."""
        found = Path(super().translate_path(path))
        inside = found.resolve().is_relative_to(Path(self.directory).resolve())
        return str(found) if inside else str(found / "\0")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name in the base class)
        """Keeps quiet."""
