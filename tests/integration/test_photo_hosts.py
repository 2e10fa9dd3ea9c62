"""Photo hosts that fail as they do in practice: behind a redirect or a proxy, silent for all photos or for some."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from consumer import events
from consumer.events import PhotoUploaded
from consumer.reader import TagReader
from consumer.service.run import Service
from consumer.settings import Settings
from tests.egress_proxy import Proxy
from tests.harness import RED, World, eventually
from tests.photo_host import Handler, response, serving

#: Ways in which a server that is there fails for everything.
FAULTS = ["refuses", "hangs", "503", "closes", "cuts bodies", "stops in bodies"]


class Faulty:
    """A web server on a real socket, on one port for all its life, that serves photos or fails in one way."""

    def __init__(self) -> None:
        self.port = 0
        self.fault = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.fault = ""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def fail(self, fault: str) -> None:
        """Fails from now on, and for connections that are open."""
        self.fault = fault
        if fault == "refuses":
            await self.stop()
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await self.answer(head, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        # Photos of different bytes, so that each needs Triton.
        whole = response("200 OK", RED + head.split()[1], Connection="close")
        match self.fault:
            case "":
                writer.write(whole)
            case "hangs":
                await asyncio.Event().wait()
            case "503":
                writer.write(response("503 Service Unavailable", Connection="close"))
            case "cuts bodies" | "stops in bodies":
                writer.write(whole[:-10])
                await writer.drain()
                if self.fault == "stops in bodies":
                    await asyncio.Event().wait()
        await writer.drain()


@pytest.fixture
async def cdn() -> AsyncIterator[Faulty]:
    server = Faulty()
    await server.start()
    yield server
    await server.stop()


def with_fetch(settings: Settings, *addresses: str, **changes: object) -> Settings:
    """Settings with short times, under which photos may come from these addresses too."""
    fetch = settings.fetch.model_copy(
        update={
            "allow_addresses": (*settings.fetch.allow_addresses, *addresses),
            "read_timeout_s": 0.5,
            "connect_timeout_s": 0.5,
            "total_timeout_s": 1.0,
            **changes,
        }
    )
    hosts = settings.hosts.model_copy(update={"max_wait_s": 0.5, "overdue_s": 0.3})
    return settings.model_copy(update={"fetch": fetch, "hosts": hosts})


def outcome(service: Service, name: str) -> int:
    return service.outcomes().get(cast("Any", name), 0)


def send(world: World, photo_id: str, uri: str) -> None:
    event = PhotoUploaded(photo_id, uri, datetime.now(UTC))
    world.producer.produce(
        world.settings.kafka.uploads_topic,
        events.encode(event),
        photo_id,
        headers={"ce_type": events.UPLOADED.encode()},
    )


async def outlasted(world: World, service: Service, lost: str, count: int) -> None:
    """Waits until a host is known to be lost and each of `count` photos had been waited for longer than its rounds."""
    await eventually(lambda: lost in [line["host"] for line in world.events_logged("host.lost")])
    await eventually(lambda: outcome(service, "deferred") >= 3 * count)
    assert outcome(service, "dead_lettered") == 0


@pytest.mark.parametrize("fault", FAULTS)
async def test_photos_wait_for_the_host_behind_a_redirect(world: World, cdn: Faulty, fault: str) -> None:
    async def redirect() -> web.Response:
        return web.Response(status=302, headers={"Location": f"{cdn.origin}/signed{time.monotonic_ns()}"})

    world.photos.answers["photo"] = redirect
    async with world.service(with_fetch(world.settings, f"127.0.0.1:{cdn.port}")) as service:
        for number in range(5):
            world.upload(f"before{number}", f"photo/{number}")
        await eventually(lambda: outcome(service, "tagged") == 5)
        await cdn.fail(fault)
        for number in range(10):
            world.upload(f"during{number}", f"photo/d{number}")
        await outlasted(world, service, cdn.origin, 10)
        await cdn.start()
        await eventually(lambda: outcome(service, "tagged") == 15)
    assert {line["host"] for line in world.events_logged("host.lost")} == {cdn.origin}
    assert world.dead() == []


async def test_a_dot_at_the_end_of_a_host_s_name_is_no_outage_of_it(world: World) -> None:
    host = f"localhost:{world.photos.address.partition(':')[2]}"
    world.photos.answers["red"] = RED
    async with world.service(with_fetch(world.settings, host)) as service:
        send(world, "plain", f"http://{host}/red/1")
        world.producer.flush(10)
        await eventually(lambda: outcome(service, "tagged") == 1)
        # The system knows the name from its hosts file, which has no such dot.
        send(world, "dotted", f"http://{host.replace(':', '.:')}/red/2")
        world.producer.flush(10)
        await eventually(lambda: outcome(service, "tagged") == 2)
    assert world.events_logged("host.lost") == []


class FaultyProxy(Faulty):
    """An egress proxy that leads every name to the photo server of the test."""

    def __init__(self, world: World) -> None:
        super().__init__()
        place, port = world.photos.address.split(":")
        self._proxy = Proxy(cast("Any", SimpleNamespace(address=place, port=int(port))))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault:
            await super()._serve(reader, writer)
            return
        try:
            await self._proxy.handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        if self.fault == "407":
            no = response("407 Proxy Authentication Required", Proxy_Authenticate="Basic realm=x", Connection="close")
            writer.write(no)
            await writer.drain()
        else:
            await super().answer(head, writer)


@pytest.mark.parametrize("fault", [*FAULTS, "407"])
async def test_photos_of_every_host_wait_for_the_egress_proxy(world: World, fault: str) -> None:
    proxy = FaultyProxy(world)
    await proxy.start()
    world.photos.answers["red"] = RED
    try:
        async with world.service(with_fetch(world.settings, proxy=proxy.origin)) as service:
            for number in range(5):
                send(world, f"before{number}", f"http://known{number}.example/red/{number}")
            world.producer.flush(10)
            await eventually(lambda: outcome(service, "tagged") == 5)
            await proxy.fail(fault)
            for number in range(10):
                send(world, f"during{number}", f"http://host{number % 7}.example/red/d{number}")
            world.producer.flush(10)
            # Those of hosts that were never seen wait as well.
            await eventually(lambda: "photos" in service.dependencies.lost or outcome(service, "deferred") >= 30)
            await eventually(lambda: proxy.origin in [line["host"] for line in world.events_logged("host.lost")])
            assert outcome(service, "dead_lettered") == 0
            await proxy.start()
            await eventually(lambda: outcome(service, "tagged") == 15)
    finally:
        await proxy.stop()
    assert world.dead() == []


async def say_nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def drip(head: bytes) -> Handler:
    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.5)

    return handle


@asynccontextmanager
async def silent(handle: Handler, hosts: int) -> AsyncIterator[list[str]]:
    """The addresses of so many hosts that answer in this way; each has an address of its own on loopback."""
    async with serving(handle, "0.0.0.0") as port:
        yield [f"127.0.1.{number + 1}:{port}" for number in range(hosts)]


def for_every_second(handle: Handler) -> Handler:
    """A host that gives every other photo at once."""

    async def handle_some(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        number = int(head.split()[1].removeprefix(b"/"))
        if number % 2:
            writer.write(response("200 OK", RED + b"%d" % number, Connection="close"))
            await writer.drain()
        else:
            await handle(reader, writer)

    return handle_some


#: How hosts answer, how many there are, and how many photos.
FLOODS: dict[str, tuple[Handler, int, int]] = {
    "silent": (say_nothing, 1, 300),
    "silent, events of one photo": (say_nothing, 1, 1),
    "silent, 40 hosts": (say_nothing, 40, 300),
    "drips headers": (drip(b"HTTP/1.1 200 OK\r\nX: "), 1, 300),
    "drips a body": (drip(response("200 OK", Content_Length=None) + b"a"), 1, 300),
    "drips a body, 40 hosts": (drip(response("200 OK", Content_Length=None) + b"a"), 40, 300),
    "half is silent": (for_every_second(say_nothing), 1, 300),
    "half is silent, 10 hosts": (for_every_second(say_nothing), 10, 300),
    "half drips a body": (for_every_second(drip(response("200 OK", Content_Length=None) + b"a")), 1, 300),
    "drips a long body": (drip(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"), 1, 300),
}


@pytest.mark.parametrize(
    ("flood", "known"),
    [
        *(pytest.param(flood, True, id=f"{name}, known") for name, flood in FLOODS.items()),
        *(
            pytest.param(flood, False, id=f"{name}, first seen")
            for name, flood in FLOODS.items()
            if "half" not in name and flood[2] > 1
        ),
    ],
)
async def test_a_flood_of_photos_of_silent_hosts_does_not_hold_up_those_of_a_good_one(
    world: World, flood: tuple[Handler, int, int], *, known: bool
) -> None:
    handle, hosts, photos = flood
    world.photos.answers["red"] = RED
    async with silent(handle, hosts) as addresses:
        fetch = type(world.settings.fetch)(
            schemes=("http",), allow_addresses=(*world.settings.fetch.allow_addresses, *addresses)
        )
        settings = world.settings.model_copy(
            update={
                "fetch": fetch,
                "retry": type(world.settings.retry)(),
                "hosts": type(world.settings.hosts)(),
                # The end of the test is not to wait for silent hosts.
                "service": world.settings.service.model_copy(update={"drain_timeout_s": 0.2}),
            }
        )
        async with world.service(settings) as service:
            if known:
                world.upload("first", "red/first")
                await eventually(lambda: outcome(service, "tagged") == 1)
            for number in range(300):
                send(world, f"bad{number % photos}", f"http://{addresses[number // 2 % hosts]}/{number}")
            world.producer.flush(10)
            good = {f"good{number}" for number in range(20)}
            for photo_id in good:
                world.upload(photo_id, f"red/{photo_id}")
            # Without shares: 62 s. The service starts, and finds out for a second or two who answers.
            with TagReader(world.settings.redis.url) as reader:
                await eventually(lambda: reader.get_many(good).keys() == good, deadline_s=30)
            assert world.dead() == []
