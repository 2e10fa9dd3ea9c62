"""Name resolution in threads of its own: a name server that does not answer must not block other work in threads."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

#: A lookup takes a thread until its name server answers, or for 10 s; the HTTP client caches the answers.
_THREADS: Final = 16


class Lookup(AbstractResolver):
    """The system's resolver."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Every address of a name.

        Raises:
            OSError: the name cannot be resolved.
        """
        ask = partial(
            socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        ]

    async def close(self) -> None:
        """Cancels waiting lookups; does not wait for running ones."""
        self._threads.shutdown(wait=False, cancel_futures=True)
