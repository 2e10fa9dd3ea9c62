"""What is said where a schema registry does not answer, refuses, or is none. A real one: tests/integration."""

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from consumer.errors import DependencyDown, SettingsError
from consumer.events import TAGGED
from consumer.kafka import registry
from consumer.kafka.registry import Registry, subjects
from consumer.settings import Settings, rows
from consumer.topic_names import TopicNames

SUBJECT = subjects(TopicNames())[TAGGED]


class Answering(ThreadingHTTPServer):
    """Answers everything alike; keeps who asked."""

    status, body, hangs = 200, b"{}", False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str]] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization", "")))
        if self.server.hangs:
            self.server.released.wait(20)
            return
        self.send_response(self.server.status)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Answering]:
    with Answering() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


def answer(number: int = 7, kind: str = "JSON", **schema: Any) -> bytes:
    text = json.dumps({"title": TAGGED, "required": ["photo_id"], **schema})
    return json.dumps({"subject": SUBJECT, "version": 1, "id": number, "schemaType": kind, "schema": text}).encode()


def why(server: Answering, **more: str) -> str:
    with pytest.raises(DependencyDown) as caught:
        Registry(server.url, **more).frame(SUBJECT, TAGGED)
    said = str(caught.value)
    assert said.startswith(f"kafka: schema registry {server.url}: ")
    assert said.isprintable()
    return said.removeprefix(f"kafka: schema registry {server.url}: ")


def test_the_number_of_the_newest_schema_stands_before_a_value(server: Answering) -> None:
    server.body = answer(70_000)
    assert Registry(server.url, "me", "p:\u00e4 w").frame(SUBJECT, TAGGED) == b"\0\0\1\x11\x70"
    ((path, login),) = server.asked
    assert path.partition("?")[0] == f"/subjects/{SUBJECT}/versions/latest"
    assert base64.b64decode(login.removeprefix("Basic ")).decode() == "me:p:\u00e4 w"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            401,
            b'{"error_code": 401, "message": "no \\u001b[31mentry"}',
            r"status 401: no \x1b[31mentry; look at registry",
        ),
        (
            403,
            b'{"error_code": 40301, "message": "not yours"}',
            "status 403: not yours; look at registry.user and what",
        ),
        (404, b'{"error_code": 40401, "message": "none"}', f"{SUBJECT} has no schema; register it: `photo-tagger sch"),
        (404, b"<html>", "status 404: Unknown Schema Registry Error"),
        (302, b"", "status 302: "),
        (500, b"[]", "status 500: "),
        (200, b"<html>", "no answer of a schema registry: "),
        (200, b"[]", "no answer of a schema registry: "),
        (200, b"{}", "no answer of a schema registry"),
        (200, answer(title=None), f"the newest schema of {SUBJECT}, 7, is not {TAGGED} of this version; register that"),
        (200, answer(kind="AVRO"), f"the newest schema of {SUBJECT}, 7, is not {TAGGED} of this version"),
        (200, answer(required=["mood"]), f"the newest schema of {SUBJECT}, 7, is not {TAGGED} of this version"),
        (200, answer(required=3), "no answer of a schema registry"),
        (200, answer(1 << 32), f"{SUBJECT}: the number {1 << 32} does not fit in four bytes"),
        (200, answer(-1), f"{SUBJECT}: the number -1 does not fit in four bytes"),
    ],
)
def test_what_is_no_schema_is_waited_for_with_the_reason(
    server: Answering, status: int, body: bytes, said: str
) -> None:
    server.status, server.body = status, body
    assert why(server).startswith(said)


def test_a_long_reason_is_cut(server: Answering) -> None:
    server.status, server.body = 500, json.dumps({"error_code": 1, "message": "x" * 100_000}).encode()
    assert len(why(server)) < 400


def test_a_registry_that_hangs_or_is_not_there_is_not_waited_for(
    server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_TIMEOUT_S", 0.2)
    server.hangs = True
    assert why(server) == "timed out"
    with pytest.raises(DependencyDown, match="Connection refused"):
        Registry("http://127.0.0.1:1").frame(SUBJECT, TAGGED)
    server.hangs, server.body = False, answer()
    assert Registry(f"http://127.0.0.1:1, {server.url}/").frame(SUBJECT, TAGGED), "the second of two answers"


def test_the_extra_and_the_authorities_are_named_where_they_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match=r"registry\.ca: cannot read .*none\.pem"):
        Registry("https://127.0.0.1:1", ca=str(tmp_path / "none.pem")).newest(SUBJECT)
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)
    with pytest.raises(SettingsError, match=r"registry\.url: it needs the extra registry: pip install"):
        Registry("http://127.0.0.1:1").newest(SUBJECT)


@pytest.mark.parametrize(
    "given",
    [
        *({"url": url} for url in ("host:8081", "ftp://host", "http://", "http://h:0", "http://a b", "http://a,", ",")),
        *({"url": url} for url in ("http://me:canary@host", "http://host?key=canary", "http://host#canary")),
        {"url": "http://host", "user": "me"},
        {"url": "http://host", "password": "canary"},
        {"url": "http://host", "user": "me:you", "password": "canary"},
        {"user": "me", "password": "canary"},
        {"ca": "/ca.pem"},
    ],
)
def test_settings_that_make_no_sense_are_refused_without_their_secrets(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as error:
        Settings(registry=given)
    assert "canary" not in str(error.value)


def test_the_password_is_masked() -> None:
    settings = Settings(registry={"url": "http://a,http://b/path", "user": "me", "password": "canary"})
    shown = {row.name: row.value for row in rows(settings, {})}
    assert shown["registry.password"] == "***"
    assert "canary" not in str(shown) + repr(settings) + repr(Registry("http://a", "me", "canary"))
