"""What is known of each photo host, for a bounded number of them."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from consumer.events import PhotoUploaded
from consumer.fetch.room import Room

#: Events can name any number of hosts: of those that answered and of the others, the least recently used is forgotten.
MAX_HOSTS: Final = 1_024


@dataclass(slots=True, eq=False)
class Host:
    """One origin that photos come from, or that stands before it: an egress proxy, the endpoint of a store."""

    answered_s: float | None = None
    #: Its last answer that was not a redirect to another host.
    ended_s: float | None = None
    failing_s: float | None = None
    unreachable: bool = False
    #: Its last failure tells nothing of the photo: no connection, or no answer.
    cut_off: bool = False
    #: Different photos that failed since it answered.
    photos: set[str] = field(default_factory=set)
    #: The last photo that came from it or by way of it; the probe requests it.
    good: PhotoUploaded | None = None
    #: What the good photo came through.
    through: tuple[str, ...] = ()
    #: Whose failure its photos met last: its own, or of what it redirects to or lies behind.
    waits_for: str | None = None
    silent: bool = False
    probed_s: float | None = None
    probe: asyncio.Future[None] | None = None
    reported: bool = False
    room: Room = field(default_factory=Room)


class HostTable:
    """The hosts by their origin. Hosts that never answered cannot push out those that did."""

    def __init__(self, forgotten: Callable[[Host], None]) -> None:
        self._answering: OrderedDict[str, Host] = OrderedDict()
        self._others: OrderedDict[str, Host] = OrderedDict()
        self._forgotten = forgotten

    def __len__(self) -> int:
        return len(self._answering) + len(self._others)

    def __getitem__(self, name: str) -> Host:
        """The host, a new one if it is not known."""
        table = self._answering if name in self._answering else self._others
        return self._kept(table, name, table.get(name) or Host())

    def answering(self, name: str) -> Host:
        """The host, from now on among those that have answered."""
        host = self._others.pop(name, None) or self._answering.get(name) or Host()
        return self._kept(self._answering, name, host)

    def known(self) -> Iterator[tuple[str, Host]]:
        """The hosts that have answered, the most recently used first."""
        return ((name, self._answering[name]) for name in reversed(self._answering))

    def _kept(self, table: OrderedDict[str, Host], name: str, host: Host) -> Host:
        table[name] = host
        table.move_to_end(name)
        if len(table) > MAX_HOSTS:
            _, least = table.popitem(last=False)
            self._forgotten(least)
        return host
