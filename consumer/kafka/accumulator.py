"""Records of a topic that are held back for a moment, so that they go in one batch behind those that are under way.

librdkafka's idempotent producer sends nothing more to a partition with five unacknowledged records. Where further ones
wait there, its thread does not sleep until an acknowledgement comes: it spins, which costs up to 1 ms of CPU a record
(measured with librdkafka 2.16; `rd_kafka_toppar_producer_serve` asks to be woken at once).
"""

import asyncio
from time import monotonic
from typing import Final

#: Of a topic, whose partitions share them.
_MOST_UNDER_WAY: Final = 8
#: A little less than `linger.ms`: what comes within it goes in the same batch.
_BATCH_S: Final = 0.004
#: One partition may have no leader, and its records no answer for long: the others go on.
_HELD_S: Final = 0.05


class Accumulator:
    """The records of one topic that are under way or held back; for one event loop."""

    def __init__(self) -> None:
        self._under_way = 0
        self._began_s = 0.0
        #: Set when those that are held back may go; None while there are none.
        self._opened: asyncio.Event | None = None

    async def enter(self) -> None:
        """Counts a record as under way, once it may go. `leave` must follow."""
        if self._under_way >= _MOST_UNDER_WAY and monotonic() - self._began_s > _BATCH_S:
            if self._opened is None:
                self._opened = asyncio.Event()
                asyncio.get_running_loop().call_later(_HELD_S, self._open, self._opened)
            await self._opened.wait()
        elif not self._under_way:
            self._began_s = monotonic()
        self._under_way += 1

    def leave(self) -> None:
        """A record is acknowledged or was not sent."""
        self._under_way -= 1
        if self._opened is not None and self._under_way < _MOST_UNDER_WAY:
            self._open(self._opened)

    def _open(self, opened: asyncio.Event) -> None:
        if opened is self._opened:
            self._began_s = monotonic()
            self._opened = None
        opened.set()
