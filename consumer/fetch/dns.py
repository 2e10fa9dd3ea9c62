"""Name resolution by the system's resolver (hosts file, search domains, name servers), so that no name delays another.

A lookup takes a thread until its name server answers, 10 s and more where that is silent, and anybody can make such
names. So a domain has places of its own, names that resolved before are looked up apart from new ones, and their last
addresses stand in while their name server is slow or silent (RFC 8767). The HTTP client caches answers for 10 s.
"""

import asyncio
import socket
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

from consumer.fetch.lanes import Lanes, LaneStuck

#: More than the 5 s after which a resolver asks its second name server.
_PATIENCE_S: Final = 8.0
#: An answer that takes longer is replaced by the last one.
_PROMPT_S: Final = 0.5
#: After a failure that took longer than `_PROMPT_S`, the name is not looked up again for so long.
_QUIET_S: Final = 5.0
#: The last addresses stand in for so long.
_KEPT_S: Final = 86_400.0
_IN_EACH_DOMAIN: Final = 16
_IN_ALL: Final = 256
#: Events can name any number of hosts: the least recently used is forgotten.
_MAX_NAMES: Final = 4_096
#: There is no such name; every other failure may end by itself.
_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})

_Question = tuple[str, int, socket.AddressFamily]
_Answer = list[ResolveResult]


@dataclass(slots=True)
class _Name:
    """What is known of a name."""

    answer: _Answer = field(default_factory=list)
    answered_s: float = 0.0
    lookup: asyncio.Task[_Answer] | None = None
    began_s: float = 0.0
    quiet_until_s: float = 0.0

    def last_answer(self) -> _Answer:
        """The last addresses; none where they are too old."""
        return self.answer if monotonic() - self.answered_s < _KEPT_S else []


class Lookup(AbstractResolver):
    """The system's resolver; for one event loop."""

    def __init__(self, *, patience_s: float = _PATIENCE_S, prompt_s: float = _PROMPT_S) -> None:
        self._patience_s = patience_s
        self._prompt_s = prompt_s
        lanes = partial(Lanes, in_each=_IN_EACH_DOMAIN, in_all=_IN_ALL, overdue_s=patience_s)
        self._new, self._known = lanes("lookup"), lanes("lookup-known")
        self._names: OrderedDict[_Question, _Name] = OrderedDict()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Every address of a name; the last known ones where its name server is slow or fails.

        Raises:
            OSError: the name cannot be resolved, or not in time.
        """
        question = (host, port, family)
        name = self._names.setdefault(question, _Name())
        self._names.move_to_end(question)
        if len(self._names) > _MAX_NAMES:
            self._names.popitem(last=False)
        try:
            return await self._fresh(name, question)
        except OSError as failure:
            if failure.errno in _NO_SUCH_NAME or not name.last_answer():
                raise
            return name.last_answer()

    async def close(self) -> None:
        """Ends the waits for lookups; those that run end by themselves."""
        for name in self._names.values():
            if name.lookup is not None:
                name.lookup.cancel()

    async def _fresh(self, name: _Name, question: _Question) -> _Answer:
        """The answer of the lookup that runs, else of a new one.

        Raises:
            gaierror: as `resolve`; there is no answer in time, or was none a moment ago.
            OSError: as `resolve`.
        """
        if name.lookup is None:
            if monotonic() < name.quiet_until_s:
                raise socket.gaierror(socket.EAI_AGAIN, "no answer a moment ago")
            name.began_s = monotonic()
            name.lookup = asyncio.get_running_loop().create_task(self._look_up(name, question))
            name.lookup.add_done_callback(_retrieved)
        lookup, patience_s = name.lookup, self._prompt_s if name.last_answer() else self._patience_s
        await asyncio.wait({lookup}, timeout=max(0.0, name.began_s + patience_s - monotonic()))
        if not lookup.done():
            raise socket.gaierror(socket.EAI_AGAIN, "no answer in time")
        return lookup.result()

    async def _look_up(self, name: _Name, question: _Question) -> _Answer:
        lanes = self._known if name.answer else self._new
        try:
            name.answer = await lanes.run(domain_of(question[0]), partial(_addresses, *question))
        except LaneStuck as stuck:
            raise socket.gaierror(socket.EAI_AGAIN, f"its domain does not answer: {stuck}") from None
        except socket.gaierror as failure:
            if failure.errno not in _NO_SUCH_NAME and monotonic() - name.began_s > self._prompt_s:
                name.quiet_until_s = monotonic() + _QUIET_S
            raise
        finally:
            name.lookup = None
        name.answered_s = monotonic()
        return name.answer


def domain_of(host: str) -> str:
    """What one owner can make names below: the last two labels, or three where the second last is as short as `co.uk`.

    Good enough for a bound: with the list of public suffixes, some few owners would share no places.
    """
    labels = host.rstrip(".").lower().split(".")
    short = len(labels) > 2 and len(labels[-2]) <= 3  # noqa: PLR2004 - labels of co.uk, com.au
    return ".".join(labels[-3 if short else -2 :])


def _addresses(host: str, port: int, family: socket.AddressFamily) -> _Answer:
    """Asks the system, in a thread.

    Raises:
        gaierror: the name cannot be resolved.
        OSError: a limit of this process, such as `EMFILE`.
    """
    try:
        found = _asked(host, port, family)
    except socket.gaierror:
        # Without a free descriptor the system answers "temporary failure" or "unknown": then this raises the reason.
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
        if not host.endswith("."):
            raise
        # Hosts files and search domains know no name with this dot, and it is the same host.
        found = _asked(host[:-1], port, family)
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=int(address[1]),
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, protocol, _, address in found
    ]


def _asked(host: str, port: int, family: socket.AddressFamily) -> list[tuple[Any, ...]]:
    """What the system answers.

    Raises:
        gaierror: the name cannot be resolved.
    """
    try:
        return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "not a name") from None


def _retrieved(lookup: asyncio.Task[_Answer]) -> None:
    """Retrieves the exception, which asyncio would log if nothing awaited it."""
    if not lookup.cancelled():
        lookup.exception()
