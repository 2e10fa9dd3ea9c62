"""The embedded photo host: an HTTP server over a folder, on loopback."""

import functools
import http.server
import io
import threading
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Self


class PhotoHost:
    """Serves the files of a folder at `base_url`, from threads of this process; a context manager."""

    def __init__(self, folder: Path) -> None:
        """Starts serving; files that are added to the folder later are served too."""
        handler = functools.partial(_Handler, directory=str(folder.absolute()))
        self._server = _PhotoServer(("127.0.0.1", 0), handler)
        #: Without a trailing slash.
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="photo-host", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops serving and closes the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _PhotoServer(http.server.ThreadingHTTPServer):
    # A benchmark opens hundreds of connections at once.
    request_queue_size = 256
    # Otherwise closing waits for every kept-alive connection.
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Logs nothing when a client disconnects."""


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in one segment.
    wbufsize = -1
    disable_nagle_algorithm = True
    timeout = 60

    def list_directory(self, path: object) -> io.BytesIO | None:  # noqa: ARG002 (the base class passes it)
        """Answers 404: folders are not listed."""
        self.send_error(HTTPStatus.NOT_FOUND)
        return None

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Answers 404 for a path outside the folder, which a link in it may point to."""
        found = Path(self.translate_path(self.path)).resolve()
        if not found.is_relative_to(Path(self.directory).resolve()):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name in the base class)
        """Logs nothing."""
