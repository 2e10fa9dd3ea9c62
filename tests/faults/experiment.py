"""One run of a fault experiment: how large it is, its chances, and what it reports."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from consumer.reader import TagReader
from tests.harness import eventually
from tests.ledger import Books, Ledger


@dataclass(frozen=True, slots=True)
class Experiment:
    """What a scenario needs beside its world. Figures are reported; only the books decide.

    `full` is the long form (`make faults`); `chance` is where every random choice comes from.
    """

    full: bool
    chance: random.Random
    _report: Callable[[str, object], None]

    def size(self, short: int, *, full: int) -> int:
        """How many of something: few in the short form, more in the long one."""
        return full if self.full else short

    def figure(self, name: str, value: float) -> None:
        """Reports a measured figure under a name that carries its unit."""
        self._report(f"figure: {name}", round(value, 2))

    def recovered(self, seconds: float) -> None:
        """Reports the time from a fault (or its end) until work went on."""
        self._report("recovered_s", round(seconds, 2))

    async def recovery(self, ledger: Ledger, photo: str, *, since_s: float, deadline_s: float = 60.0) -> None:
        """Sends a photo to every partition, waits until all are tagged, and reports how long that is since a moment.

        `photo` is what the photo host answers; each gets its own bytes, so that all have to be judged.
        """
        number = ledger.produced.total()
        probes = {f"probe-{number}-{partition}": partition for partition in ledger.world.committed()}
        for photo_id, partition in probes.items():
            ledger.upload(photo_id, f"{photo}/{photo_id}", partition=partition)
        with TagReader(ledger.world.settings.redis.url) as reader:
            await eventually(lambda: reader.get_many(probes).keys() == probes.keys(), deadline_s=deadline_s)
        self.recovered(time.monotonic() - since_s)

    def close(self, ledger: Ledger, *, dead: int = 0) -> Books:
        """Reports what the books say, and fails unless they balance with so many dead letters."""
        books = ledger.audit()
        for name in ("lost", "regressed"):
            self._report(name, len(getattr(books, name)))
        self._report("duplicated", books.duplicated)
        return ledger.close(books, dead=dead)
