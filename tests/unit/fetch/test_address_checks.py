import asyncio
import socket
import threading
from pathlib import Path

import pytest
from aiohttp.abc import ResolveResult

from consumer.embedded.paths import free_port
from consumer.fetch.fetcher import Fetcher
from consumer.fetch.limits import FetchLimits
from tests.photo_host import (
    BODY,
    SECRET,
    Host,
    Names,
    event,
    failure,
    fetch,
    hosting,
    limits_for,
    redirect,
    rejected,
    response,
    retryable,
    without_ipv6,
)


class BothAddresses(Names):
    """A DNS server that gives every name all of these addresses at once."""

    def __init__(self, addresses: list[str]) -> None:
        super().__init__()
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
            for address in self._addresses
        ]


class TestRedirects:
    @pytest.mark.parametrize(
        "status",
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"],
    )
    async def test_redirects_are_followed(self, host: Host, status: str) -> None:
        host.serve("/photo.jpg", response("200 OK", BODY))
        assert await fetch(host.serve("/a", redirect("photo.jpg", status)), limits_for(host)) == BODY
        assert await fetch(host.serve("/b", redirect(host.url(), status)), limits_for(host)) == BODY

    async def test_as_many_redirects_as_allowed_are_followed(self, host: Host) -> None:
        host.serve("/0", response("200 OK", BODY))
        for hop in range(1, 5):
            host.serve(f"/{hop}", redirect(f"/{hop - 1}"))
        assert await fetch(host.url("/3"), limits_for(host)) == BODY
        assert await rejected(host.url("/4") + SECRET, limits_for(host)) == "too_many_redirects"
        assert await rejected(host.url("/1"), limits_for(host, max_redirects=0)) == "too_many_redirects"

    async def test_a_loop_ends(self, host: Host) -> None:
        assert await rejected(host.serve("/a", redirect("/a")), limits_for(host)) == "too_many_redirects"
        assert len(host.requests) == 4

    @pytest.mark.parametrize(
        ("location", "reason"),
        [
            ("http://127.0.0.1:1/a", "address_not_allowed"),
            ("http://[::1]/a", "address_not_allowed"),
            ("http://[::ffff:127.0.0.1]/a", "address_not_allowed"),
            ("http://169.254.169.254/latest/meta-data", "address_not_allowed"),
            ("//10.0.0.1/a", "address_not_allowed"),
            ("http://2130706433/a", "url_not_allowed"),
            ("file:///etc/passwd", "url_not_allowed"),
            ("ftp://127.0.0.1/a", "url_not_allowed"),
            ("http://user:hunter2@127.0.0.1/a", "url_not_allowed"),
            ("http://[broken/a", "url_not_allowed"),
        ],
    )
    async def test_a_redirect_is_checked_like_the_first_url(
        self, host: Host, tmp_path: Path, location: str, reason: str
    ) -> None:
        limits = limits_for(host, schemes=("https", "http", "file"), file_root=tmp_path.anchor)
        assert await rejected(host.serve("/a", redirect(location)), limits) == reason

    async def test_a_redirect_to_a_scheme_that_is_not_allowed_is_refused(self, host: Host) -> None:
        assert (
            await rejected(host.serve("/a", redirect("https://127.0.0.1/a")), limits_for(host, schemes=("http",)))
            == "url_not_allowed"
        )

    async def test_a_redirect_to_nowhere_is_malformed(self, host: Host) -> None:
        assert await retryable(host.serve("/a", response("302 Found")), limits_for(host)) == "malformed_response"


class TestAddresses:
    @pytest.mark.parametrize(
        "place",
        [
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "10.0.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "[fd00:ec2::254]",
            "0.0.0.0",
            "100.64.0.1",
            "[fe80::1]",
            "[::127.0.0.1]",
            "224.0.0.1",
        ],
    )
    async def test_addresses_of_our_own_are_refused(self, place: str) -> None:
        assert await rejected(f"http://{place}/a{SECRET}", FetchLimits(schemes=("http",))) == "address_not_allowed"

    @pytest.mark.parametrize("place", ["127.0.0.1", "10.1.1.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"])
    async def test_a_name_is_judged_by_the_address_that_it_leads_to(self, place: str) -> None:
        names = Names(photos_example=[place])
        assert (
            await rejected(f"http://photos.example/a{SECRET}", FetchLimits(schemes=("http",)), names)
            == "address_not_allowed"
        )

    async def test_a_name_that_changes_its_address_is_refused_at_the_second_one(self) -> None:
        async with hosting("127.0.0.2") as outside:
            names = Names(rebinding_example=["127.0.0.2", "127.0.0.1"])
            uri = outside.serve("/a", response("200 OK", BODY, Connection="close")).replace(
                "127.0.0.2", "rebinding.example"
            )
            limits = limits_for(outside, allow_addresses=("127.0.0.2/32",))
            assert await fetch(uri, limits, names) == BODY
            assert await rejected(uri, limits, names) == "address_not_allowed"

    async def test_a_public_first_answer_is_no_pass_for_a_private_second_one(self, host: Host) -> None:
        names = Names(rebinding_example=["93.184.216.34", "127.0.0.1"])
        assert (await names.resolve("rebinding.example"))[0]["host"] == "93.184.216.34"
        limits = limits_for(host, allow_addresses=())
        assert await rejected(host.url("/photo.jpg", "rebinding.example"), limits, names) == "address_not_allowed"
        assert host.requests == []

    async def test_a_redirect_to_a_name_inside_is_refused(self, host: Host) -> None:
        names = Names(inside_example=["10.0.0.7"])
        assert (
            await rejected(host.serve("/a", redirect("http://inside.example/")), limits_for(host), names)
            == "address_not_allowed"
        )

    @pytest.mark.skipif(without_ipv6(), reason="no IPv6 here")
    @pytest.mark.parametrize("place", ["[::1]", "[0:0:0:0:0:0:0:1]", "[::0001]", "[0::0.0.0.1]"])
    async def test_an_ipv6_address_in_brackets_is_a_host_in_every_spelling(self, place: str) -> None:
        async with hosting("::1") as host:
            host.serve("/a%2fb", response("200 OK", BODY))
            host.serve("/b", redirect(f"//{place}:{host.port}/a%2fb"))
            for entry in (f"{place}:{host.port}", "::1/128"):
                limits = limits_for(host, allow_addresses=(entry,))
                assert await fetch(host.url("/b", place), limits) == BODY
            assert host.requests[1].splitlines()[:2] == [
                b"GET /a%2fb HTTP/1.1",
                f"Host: {place}:{host.port}".encode(),
            ]
            error = await failure(host.url("/none", place), limits)
            assert error.detail == f"404 Not Found from http://{place}:{host.port}/none"
            assert await rejected(host.url("/b", place), limits_for(host, allow_addresses=("[::1]:1",))) == (
                "address_not_allowed"
            )

    async def test_a_host_is_allowed_by_its_name_and_port(self, host: Host) -> None:
        host.serve("/a", response("200 OK", BODY))
        names = Names(minio_internal=["127.0.0.1"], other_internal=["127.0.0.1"])
        limits = limits_for(host, allow_addresses=(f"minio.internal:{host.port}",))
        assert await fetch(host.url("/a", "MINIO.internal"), limits, names) == BODY
        assert await rejected(host.url("/a", "other.internal"), limits, names) == "address_not_allowed"
        assert await rejected(host.url("/a"), limits, names) == "address_not_allowed"

    async def test_a_host_with_a_name_that_is_not_ascii_is_allowed_by_it(self, host: Host) -> None:
        host.serve("/a", response("200 OK", BODY))
        names = Names(**{"xn--bcher-kva_intern": ["127.0.0.1"], "XN--BCHER-KVA_intern": ["127.0.0.1"]})
        limits = limits_for(host, allow_addresses=(f"B\u00fccher.Intern:{host.port}",))
        for name in ("b\u00fccher.intern", "xn--bcher-kva.intern", "XN--BCHER-KVA.intern"):
            assert await fetch(host.url("/a", name), limits, names) == BODY

    @pytest.mark.parametrize("name", ["xn--.com", "xn--a", "XN--A.example", "a.xn--.b.example", f"xn--{'z9' * 20}.com"])
    async def test_a_label_that_only_looks_encoded_is_refused_with_words(self, host: Host, name: str) -> None:
        limits = limits_for(host)
        host.serve("/a", redirect(f"http://{name}/b"))
        for uri in (f"http://{name}/a{SECRET}", host.url("/a")):
            error = await failure(uri, limits)
            assert (error.reason, "xn--" in error.detail.lower()) == ("url_not_allowed", True)
        assert await fetch(host.serve("/b", response("200 OK", BODY)), limits) == BODY

    @pytest.mark.parametrize("refused_first", [True, False])
    async def test_a_refused_address_beside_an_allowed_one_that_fails_for_a_moment_is_not_final(
        self, *, refused_first: bool
    ) -> None:
        names = BothAddresses(["10.0.0.1", "127.0.0.1"] if refused_first else ["127.0.0.1", "10.0.0.1"])
        limits = FetchLimits(schemes=("http",), allow_addresses=("127.0.0.1/32",))
        uri = f"http://photos.example:{free_port()}/a.jpg"
        assert await retryable(uri, limits, names) == "connect_failed"
        assert await rejected(uri, limits, BothAddresses(["10.0.0.1", "192.168.0.1"])) == "address_not_allowed"

    async def test_metadata_is_refused_though_everything_is_allowed(self) -> None:
        limits = FetchLimits(
            schemes=("http",), allow_addresses=("0.0.0.0/0", "169.254.169.254:80", "metadata.internal:80")
        )
        names = Names(metadata_internal=["169.254.169.254"])
        assert await rejected("http://169.254.169.254/latest", limits) == "address_not_allowed"
        assert await rejected("http://metadata.internal/latest", limits, names) == "address_not_allowed"

    @pytest.mark.parametrize(
        "uri",
        [
            "http://user@h/",
            "http://:hunter2@h/",
            "http://@h/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://127.1/",
            "http:///a",
            "https:a",
            "data:image/png;base64,AAAA",
            "gopher://h/",
            "//h/a",
            "/etc/passwd",
            "http://h\x00/",
            "http://h/a\r\nX: y",
            "http://h /",
            "s3://b/k",
            "http://h:99999/",
            "http://[::1/",
            "http://a..b/",
            "http://" + "a" * 300 + "/",
            "http://evil\\@h/",
            "",
            "http://�/",
        ],
    )
    async def test_a_uri_that_is_no_plain_url_is_refused(self, uri: str) -> None:
        names = Names(h=["93.184.216.34"])
        assert await rejected(uri, FetchLimits(schemes=("http", "https")), names) == "url_not_allowed"
        assert names.asked == []

    async def test_only_https_is_allowed_unless_told(self, host: Host) -> None:
        assert await rejected(host.url(), FetchLimits(allow_addresses=("127.0.0.0/8",))) == "url_not_allowed"

    def test_an_allowed_address_that_cannot_be_read_is_named_at_once(self) -> None:
        with pytest.raises(ValueError, match="'localhost'"):
            Fetcher(FetchLimits(allow_addresses=("localhost",)))


async def test_names_are_looked_up_in_threads_of_their_own(host: Host) -> None:
    uri = host.serve("/a", response("200 OK", BODY)).replace("127.0.0.1", "localhost")
    assert await fetch(uri, limits_for(host, allow_addresses=(f"localhost:{host.port}",))) == BODY


async def test_names_that_nobody_answers_for_hold_up_nothing_else(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(30) and [])
    (tmp_path / "a").write_bytes(BODY)
    limits = limits_for(host, schemes=("http", "file"), file_root=tmp_path, total_timeout_s=30.0)
    async with Fetcher(limits) as fetcher:
        stuck = [asyncio.create_task(fetcher.fetch(event(f"http://silent{number}.example/"))) for number in range(64)]
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            assert (await fetcher.fetch(event(f"file://{tmp_path}/a"))).body == BODY
            assert (await fetcher.fetch(event(host.serve("/a", response("200 OK", BODY))))).body == BODY
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        released.set()
