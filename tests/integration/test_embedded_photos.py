"""The embedded photo host serves a folder, and nothing else."""

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from consumer.embedded.photos import PhotoHost


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    folder = tmp_path / "photos"
    (folder / "album").mkdir(parents=True)
    (folder / "a photo.jpg").write_bytes(b"jpeg bytes")
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    return folder


@pytest.fixture
def connection(folder: Path) -> Iterator[http.client.HTTPConnection]:
    with PhotoHost(folder) as host:
        client = http.client.HTTPConnection(urlsplit(host.base_url).netloc, timeout=5)
        yield client
        client.close()


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def test_a_photo_is_served_with_its_type(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/a%20photo.jpg")
    response = connection.getresponse()
    assert (response.status, response.getheader("Content-Type")) == (200, "image/jpeg")
    assert response.read() == b"jpeg bytes"


@pytest.mark.parametrize("path", ["/missing.jpg", "/", "/album/", "/../secret.jpg", "/%2e%2e/secret.jpg", "/link.jpg"])
def test_what_is_no_photo_in_the_folder_is_404(connection: http.client.HTTPConnection, path: str) -> None:
    status, body = get(connection, path)
    assert status == 404
    assert b"secret" not in body.replace(b"/secret", b"")


def test_one_connection_serves_many_requests(connection: http.client.HTTPConnection) -> None:
    assert get(connection, "/a%20photo.jpg") == (200, b"jpeg bytes")
    socket = connection.sock
    assert get(connection, "/a%20photo.jpg") == (200, b"jpeg bytes")
    assert connection.sock is socket


def test_a_photo_that_comes_later_is_served(folder: Path, connection: http.client.HTTPConnection) -> None:
    (folder / "late.jpg").write_bytes(b"late")
    assert get(connection, "/late.jpg") == (200, b"late")


def test_the_port_closes_with_the_host(folder: Path) -> None:
    with PhotoHost(folder) as host:
        netloc = urlsplit(host.base_url).netloc
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(netloc, timeout=5).connect()
