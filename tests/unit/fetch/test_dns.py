"""The system's resolver is replaced where it is called, by one whose name servers can be slow or silent."""

import asyncio
import errno
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from consumer.fetch.dns import Lookup, domain_of
from tests.photo_host import until

AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
NONE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class NameServers:
    """What each name answers: an address, or a failure; `silent` ones answer nothing until the end."""

    def __init__(self) -> None:
        self.answers: dict[str, str | OSError] = {}
        self.silent = ""
        self.delay_s = 0.0
        self.asked: Counter[str] = Counter()
        self.released = threading.Event()

    def getaddrinfo(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked[host] += 1
        if self.silent and host.endswith(self.silent):
            self.released.wait(30)
            raise AGAIN
        time.sleep(self.delay_s)
        answer = self.answers.get(host, NONE)
        if isinstance(answer, OSError):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port))]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NameServers]:
    names = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    yield names
    names.released.set()


async def address(lookup: Lookup, host: str) -> str:
    (answer,) = await asyncio.wait_for(lookup.resolve(host, 443), 5)
    assert (answer["hostname"], answer["port"], answer["family"]) == (host, 443, socket.AF_INET)
    return answer["host"]


async def failure(lookup: Lookup, host: str) -> OSError:
    with pytest.raises(OSError) as caught:
        await asyncio.wait_for(lookup.resolve(host, 443), 5)
    return caught.value


@pytest.mark.parametrize(
    "silent",
    [
        pytest.param("n{}.blackhole.example", id="of one domain"),
        pytest.param("a.b{}.blackhole.example", id="below one domain"),
        pytest.param("n{}.blackhole{}.example", id="each of its own domain"),
    ],
)
async def test_silent_names_in_any_number_do_not_delay_a_new_one(names: NameServers, silent: str) -> None:
    names.answers["good.test"] = "1.1.1.1"
    names.silent = ".example"
    lookup = Lookup()
    tasks = [asyncio.create_task(lookup.resolve(silent.replace("{}", str(number)))) for number in range(100)]
    await until(lambda: names.asked)
    began_s = time.monotonic()
    assert await address(lookup, "good.test") == "1.1.1.1"
    assert time.monotonic() - began_s < 1.0
    for task in tasks:
        task.cancel()
    names.released.set()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_known_name_is_answered_while_all_places_of_its_own_domain_are_taken(names: NameServers) -> None:
    names.answers["www.shared.example"] = "1.1.1.1"
    lookup = Lookup()
    assert await address(lookup, "www.shared.example") == "1.1.1.1"
    names.answers["www.shared.example"] = "2.2.2.2"
    names.silent = "-silent.shared.example"
    tasks = [asyncio.create_task(lookup.resolve(f"{number}-silent.shared.example")) for number in range(40)]
    await until(lambda: names.asked.total() == 17)
    assert await address(lookup, "www.shared.example") == "2.2.2.2"
    assert names.asked.total() == 18, "a domain has 16 places"
    for task in tasks:
        task.cancel()
    names.released.set()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_last_addresses_stand_in_while_the_name_server_is_silent(names: NameServers) -> None:
    names.answers["cdn.example"] = "1.1.1.1"
    lookup = Lookup(prompt_s=0.05)
    await address(lookup, "cdn.example")
    names.silent = "cdn.example"
    for _ in range(5):
        assert await address(lookup, "cdn.example") == "1.1.1.1"
    assert names.asked["cdn.example"] == 2, "one lookup runs at a time"


async def test_the_last_addresses_stand_in_for_a_temporary_failure_but_not_for_a_name_that_is_gone(
    names: NameServers,
) -> None:
    names.answers["cdn.example"] = "1.1.1.1"
    lookup = Lookup()
    await address(lookup, "cdn.example")
    names.answers["cdn.example"] = AGAIN
    assert await address(lookup, "cdn.example") == "1.1.1.1"
    names.answers["cdn.example"] = NONE
    assert (await failure(lookup, "cdn.example")).errno == socket.EAI_NONAME
    names.answers["cdn.example"] = "2.2.2.2"
    assert await address(lookup, "cdn.example") == "2.2.2.2"


async def test_a_name_server_that_is_slow_for_all_delays_only_the_first_lookup_of_a_name(names: NameServers) -> None:
    names.answers.update({f"h{number}.example": "1.1.1.1" for number in range(16)})
    names.delay_s = 0.3
    lookup = Lookup(prompt_s=0.05)
    began_s = time.monotonic()
    await asyncio.gather(*(address(lookup, name) for name in names.answers))
    assert 0.3 <= time.monotonic() - began_s < 1.5
    names.delay_s, again_s = 1.5, time.monotonic()
    assert await asyncio.gather(*(address(lookup, name) for name in names.answers)) == ["1.1.1.1"] * 16
    assert time.monotonic() - again_s < 1.4


async def test_a_silent_name_fails_in_time_and_at_once_while_it_is_still_silent(names: NameServers) -> None:
    names.silent = "example"
    lookup = Lookup(patience_s=0.1)
    assert (await failure(lookup, "silent.example")).errno == socket.EAI_AGAIN
    began_s = time.monotonic()
    for _ in range(20):
        assert (await failure(lookup, "silent.example")).errno == socket.EAI_AGAIN
    assert time.monotonic() - began_s < 0.1
    assert names.asked["silent.example"] == 1


async def test_a_name_that_was_slow_to_fail_is_left_alone_for_a_while(names: NameServers) -> None:
    names.answers["slow.example"], names.delay_s = AGAIN, 0.1
    lookup = Lookup(prompt_s=0.05)
    for _ in range(5):
        assert (await failure(lookup, "slow.example")).errno == socket.EAI_AGAIN
    assert names.asked["slow.example"] == 1
    names.answers["quick.example"], names.delay_s = AGAIN, 0.0
    for _ in range(3):
        await failure(lookup, "quick.example")
    assert names.asked["quick.example"] == 3, "a failure that costs nothing is no reason to wait"


async def test_concurrent_questions_for_a_name_are_one_lookup(names: NameServers) -> None:
    names.answers["a.example"], names.delay_s = "1.1.1.1", 0.1
    lookup = Lookup()
    assert await asyncio.gather(*(address(lookup, "a.example") for _ in range(10))) == ["1.1.1.1"] * 10
    assert names.asked["a.example"] == 1


async def test_a_question_that_is_given_up_leaves_the_lookup_to_the_others(names: NameServers) -> None:
    names.answers["a.example"], names.delay_s = "1.1.1.1", 0.1
    lookup = Lookup()
    first = asyncio.create_task(lookup.resolve("a.example", 443))
    other = asyncio.create_task(address(lookup, "a.example"))
    await until(lambda: names.asked)
    first.cancel()
    assert await other == "1.1.1.1"


@pytest.mark.parametrize("host", ["x" * 64 + ".example", "xn--.com", "\udc80.example", "a..b"])
async def test_what_cannot_be_a_name_is_no_such_name(host: str) -> None:
    assert isinstance(await failure(Lookup(patience_s=2.0), host), socket.gaierror)


async def test_names_are_forgotten_when_there_are_too_many(names: NameServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.fetch.dns._MAX_NAMES", 10)
    lookup = Lookup()
    for number in range(30):
        names.answers[f"{number}.example"] = "1.1.1.1"
        await address(lookup, f"{number}.example")
    assert len(lookup._names) == 10


async def test_a_dot_at_the_end_is_kept_where_it_is_known_and_else_left_out(names: NameServers) -> None:
    names.answers.update({"photos.internal": "10.0.0.1", "photos.example.": "10.0.0.2", "photos.example": "10.0.0.3"})
    lookup = Lookup()
    assert await address(lookup, "photos.internal.") == "10.0.0.1"
    assert await address(lookup, "photos.example.") == "10.0.0.2"
    assert await failure(lookup, "unknown.example.") is NONE


async def test_a_limit_of_this_process_is_not_the_name_s_failure(
    names: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    names.answers["a.example"] = AGAIN
    lookup = Lookup()
    monkeypatch.setattr(socket, "socket", full)
    found = await failure(lookup, "a.example")
    assert found.errno == errno.EMFILE


async def test_a_lookup_that_hangs_does_not_delay_the_close(names: NameServers) -> None:
    names.silent = "example"
    lookup = Lookup()
    task = asyncio.create_task(lookup.resolve("a.example"))
    await until(lambda: names.asked)
    task.cancel()
    await asyncio.wait_for(lookup.close(), 1)


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("example.com", "example.com"),
        ("a.b.example.com", "example.com"),
        ("A.Example.COM.", "example.com"),
        ("photos.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("localhost", "localhost"),
        ("minio.storage.svc.cluster.local", "cluster.local"),
        ("", ""),
    ],
)
def test_a_domain_is_what_one_owner_makes_names_below(host: str, domain: str) -> None:
    assert domain_of(host) == domain
