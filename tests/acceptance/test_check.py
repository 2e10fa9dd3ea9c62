"""`photo-tagger check`: what would become of one photo, as an operator asks it."""

import asyncio
import json
import os
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.egress_proxy import proxying
from tests.harness import RED
from tests.harness_process import photo_tagger
from tests.photo_host import Host, hosting, response

REFUSED, TRANSIENT = 8, 5
#: Nobody listens there.
NO_TRITON = {"TAGGER_TRITON__URL": "127.0.0.1:1"}


async def check(target: str | Path, *more: str, **env: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the report, from a process that has nothing but these settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TAGGER_")}
    ended = await asyncio.to_thread(
        photo_tagger, "check", str(target), *more, env={**inherited, **NO_TRITON, **env}, cwd=Path("/")
    )
    assert ended.stderr == "", ended.stderr
    return ended.returncode, json.loads(ended.stdout)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "red.jpg"
    path.write_bytes(RED)
    return path


async def test_a_good_file_is_accepted_wherever_it_is_and_the_limits_are_shown(photo: Path) -> None:
    code, report = await check(photo)
    assert (code, report["outcome"], report["bytes"]) == (0, "accepted", len(RED))
    assert report["photo"]["header"]["format"] == "JPEG"
    assert report["photo"]["orientation"] == 1
    assert {each["setting"]: each["holds"] for each in report["photo"]["checks"]}["max_pixels"]
    assert report["sizes"]["said_by"].startswith("default")
    assert report["max_bytes"] == 20 * 1024 * 1024


async def test_a_uri_is_judged_as_in_an_event_and_the_setting_that_would_allow_it_is_named(host: Host) -> None:
    uri = host.serve("/red.jpg", response("200 OK", RED))
    code, report = await check(uri, TAGGER_FETCH__SCHEMES="https,http")
    assert (code, report["outcome"]) == (REFUSED, "address_not_allowed")
    name, _, value = report["setting"].partition("=")
    code, report = await check(uri, TAGGER_FETCH__SCHEMES="https,http", **{name: value})
    assert (code, report["outcome"]) == (0, "accepted")


async def test_what_is_no_photo_is_refused_and_what_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    code, report = await check(tmp_path / "page.jpg")
    assert (code, report["outcome"]) == (REFUSED, "unsupported_format")
    ended = await asyncio.to_thread(photo_tagger, "check", str(tmp_path / "none.jpg"))
    assert ended.returncode == 3
    assert "No such file" in ended.stderr


async def test_a_host_that_is_down_is_told_apart_from_a_refusal() -> None:
    settings = {"TAGGER_FETCH__SCHEMES": "http", "TAGGER_FETCH__ALLOW_ADDRESSES": "127.0.0.1:1"}
    code, report = await check("http://127.0.0.1:1/a.jpg", **settings)
    assert (code, report["outcome"], report["transient"]) == (TRANSIENT, "connect_failed", True)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """The certificate of photos.example, which is its own authority, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    files = tmp_path / "host.pem", tmp_path / "host.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=photos.example",
         "-addext", "subjectAltName=DNS:photos.example", "-out", files[0], "-keyout", files[1]],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return files


async def test_https_goes_through_the_proxy_s_tunnel_and_its_password_is_not_shown(
    certificate: tuple[Path, Path],
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    async with hosting(tls=tls) as host, proxying(host, "me:hunter2") as proxy:
        host.serve("/red.jpg", response("200 OK", RED, Connection="close"))
        settings = {"TAGGER_FETCH__PROXY": proxy.url, "SSL_CERT_FILE": str(certificate[0])}
        code, report = await check("https://photos.example/red.jpg", **settings)
    assert (code, report["outcome"]) == (0, "accepted"), report
    assert proxy.requests == ["CONNECT photos.example:443 HTTP/1.1"]
    assert report["place"]["through"] == f"http://me:***@127.0.0.1:{proxy.port}"
    assert "hunter2" not in json.dumps(report)
