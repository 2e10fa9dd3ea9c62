"""CPU of one fetched photo, next to other HTTP clients: `.venv/bin/python benchmarks/fetch.py`.

A process of its own serves bodies of 200 kB and 3 MB on loopback; this one fetches them, 32 at a time over connections
that are kept, and only its own CPU time counts (the time of all its threads, user and system). The clients take turns
in rounds, so that what else runs on the machine meets them alike; the medians are printed. `Fetcher` does all that the
service does: checks of URL, address and length, room in the byte budget, time limits. Needs requirements/bench.txt.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import aiohttp
import httpx
import requests
from requests.adapters import HTTPAdapter

from consumer.budget import Budget
from consumer.events import PhotoUploaded
from consumer.fetch.fetcher import Fetcher
from consumer.fetch.limits import FetchLimits

SIZES = {"200 kB": 200_000, "3 MB": 3_000_000}
TOGETHER = 32
ZEROS = memoryview(bytes(max(SIZES.values())))
#: On a machine that is busy with other things a request may wait long for the server.
PATIENT_S = 60.0

Get = Callable[[str], Awaitable[int]]


class Body(asyncio.Protocol):
    """Answers every request with the number of bytes that its path names."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps what answers are written to."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """A request, which on loopback comes in one piece."""
        size = int(data.split(b" ", 2)[1].rpartition(b"/")[2])
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
        self.transport.writelines((head, ZEROS[:size]))  # type: ignore[attr-defined]


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Body, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def clients(stack: AsyncExitStack, address: str) -> dict[str, Get]:
    stores = {"s3://bench": {"endpoint": f"http://{address}", "access_key_id": "a", "secret_access_key": "b"}}
    limits = FetchLimits(
        schemes=("http",),
        allow_addresses=(address,),
        stores=stores,
        connect_timeout_s=PATIENT_S,
        read_timeout_s=PATIENT_S,
        total_timeout_s=PATIENT_S,
    )
    fetcher = await stack.enter_async_context(Fetcher(limits, Budget(256 * 1024 * 1024)))
    bare = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    modern = await stack.enter_async_context(
        httpx.AsyncClient(timeout=PATIENT_S, limits=httpx.Limits(max_connections=TOGETHER))
    )
    classic = stack.enter_context(requests.Session())
    classic.mount("http://", HTTPAdapter(pool_maxsize=TOGETHER))
    threads = stack.enter_context(ThreadPoolExecutor(TOGETHER))
    moment = datetime.now(UTC)

    async def ours(url: str) -> int:
        photo = await fetcher.fetch(PhotoUploaded("p", url, moment))
        length = len(photo.body)
        photo.drop()
        return length

    async def stored(url: str) -> int:
        return await ours(f"s3://bench/{url.rpartition('/')[2]}")

    async def plain(url: str) -> int:
        async with bare.get(url) as response:
            return len(await response.read())

    async def with_httpx(url: str) -> int:
        return len((await modern.get(url)).content)

    async def with_requests(url: str) -> int:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, lambda: len(classic.get(url).content))

    return {
        "Fetcher": ours,
        "Fetcher, s3://": stored,
        "aiohttp, read()": plain,
        "httpx": with_httpx,
        "requests, threads": with_requests,
    }


async def cpu_ms(get: Get, url: str, size: int, count: int) -> float:
    """CPU ms for each of `count` requests."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            assert await get(url) == size

    began = time.process_time()
    await asyncio.gather(*(work() for _ in range(TOGETHER)))
    return (time.process_time() - began) * 1000 / count


async def measure(port: int, rounds: int) -> None:
    async with AsyncExitStack() as stack:
        address = f"127.0.0.1:{port}"
        gets = await clients(stack, address)
        for label, size in SIZES.items():
            url, count = f"http://{address}/{size}", 600 if size < 1_000_000 else 150
            figures: dict[str, list[float]] = {name: [] for name in gets}
            for get in gets.values():
                await cpu_ms(get, url, size, TOGETHER * 2)  # opens the connections
            for number in range(rounds):
                names = list(gets)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    figures[name].append(await cpu_ms(gets[name], url, size, count))
            print(f"\n{label}, {TOGETHER} at a time, {rounds} rounds of {count} requests")
            ours = statistics.median(figures["Fetcher"])
            for name, values in figures.items():
                middle = statistics.median(values)
                spread = f"{min(values):.2f} to {max(values):.2f}"
                print(f"  {name:18} {middle:6.2f} ms CPU ({spread}), {middle / ours:5.1f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve())
        return
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        asyncio.run(measure(int(server.stdout.readline()), arguments.rounds))
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
