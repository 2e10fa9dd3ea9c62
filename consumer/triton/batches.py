"""Photos of one model that are ready at nearly the same time go to Triton in one request.

A request of eight photos costs about a third of what eight requests cost, here and at Triton.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from consumer.errors import PhotoRejected, Retryable
from consumer.events import Pixels


class Row(NamedTuple):
    """The answer for one photo, and whether the model said that it was made under the contract."""

    #: float32 [values].
    values: npt.NDArray[np.float32]
    proven: bool


#: Of several photos.
Rows = Sequence[Row]
#: One request: the rows for these photos, in their order.
Send = Callable[[Sequence[Pixels]], Coroutine[Any, Any, Rows]]

#: What is expected may hang or take long: the longest wait, for each photo that is expected and in all. On a busy
#: machine photos are 50 ms apart, and wait for a second to be decoded.
_FOR_EACH_S: Final = 0.03
_LONGEST_S: Final = 0.5
#: So many requests keep Triton busy: two instances of a model work on one each, and one waits for them. Further ones
#: would wait there as well: what is ready meanwhile shares the next one.
_ENOUGH: Final = 3


@dataclass(slots=True, eq=False)
class _Batch:
    """The photos of one request, by the rows that are waited for; others may join until it is sent."""

    photos: dict[asyncio.Future[Row], Pixels] = field(default_factory=dict)
    #: Its beginning, then its request.
    step: asyncio.Handle | asyncio.Task[Rows] | None = None
    #: Its beginning is in the next turn of the loop.
    soon: bool = False
    size: int = 0


class Batches:
    """Gathers photos, each of which has its place, into requests of one model. For one event loop.

    A request is sent when it is full, when it has more photos than are still worth waiting for and Triton is not busy
    with earlier ones, or when its first photo has waited for its bound. `most` says how many photos fill it, `expected`
    how many are worth waiting for. `beside` are those of the models that judge the same photos, which need all answers:
    one waits for the others, so that it is as full.
    """

    def __init__(
        self,
        send: Send,
        most: Callable[[], int],
        expected: Callable[[], int],
        beside: "list[Batches] | None" = None,
    ) -> None:
        self._send = send
        self._most = most
        self._expected = expected
        self._beside = [] if beside is None else beside
        self._beside.append(self)
        self._open: _Batch | None = None
        #: Requests without an answer.
        self._under_way = 0

    async def ask(self, pixels: Pixels) -> Row:
        """The row of one photo. After a failure that one photo of its request may have caused, it is asked for alone.

        Raises:
            PhotoRejected: as `send`, for this photo alone.
            Retryable: likewise.
            DependencyDown: as `send`.
        """
        batch, row = self._join(pixels)
        try:
            return await row
        except (PhotoRejected, Retryable):
            if batch.size == 1:
                raise
        finally:
            self._leave(batch, row)
        return (await self._send([pixels]))[0]

    def _join(self, pixels: Pixels) -> tuple[_Batch, asyncio.Future[Row]]:
        loop = asyncio.get_running_loop()
        batch = self._open = self._open or _Batch()
        row: asyncio.Future[Row] = loop.create_future()
        batch.photos[row] = pixels
        if len(batch.photos) >= self._most():
            self._begin(batch)
            return batch, row
        self._send_unless_worth_waiting()
        if batch.step is None:
            wait_s = _LONGEST_S if self._busy() else min(self._expected() * _FOR_EACH_S, _LONGEST_S)
            batch.step = loop.call_later(wait_s, self._begin, batch)
        return batch, row

    def _send_unless_worth_waiting(self) -> None:
        batch = self._open
        if batch is None or batch.soon or self._busy() or len(batch.photos) <= self._expected():
            return
        # Not at once: photos that became ready, or got places, in the same turn of the loop join.
        batch.soon = True
        self._replace_step(batch, asyncio.get_running_loop().call_soon(self._begin, batch))

    def _busy(self) -> bool:
        return max(batches._under_way for batches in self._beside) >= _ENOUGH  # noqa: SLF001 - of the same class

    def _begin(self, batch: _Batch) -> None:
        self._open = None
        batch.size = len(batch.photos)
        request = asyncio.create_task(self._send(list(batch.photos.values())))
        self._under_way += 1
        request.add_done_callback(partial(self._end, list(batch.photos)))
        self._replace_step(batch, request)

    def _end(self, rows: list[asyncio.Future[Row]], request: asyncio.Task[Rows]) -> None:
        self._under_way -= 1
        _hand_out(rows, request)
        for batches in self._beside:
            batches._send_unless_worth_waiting()  # noqa: SLF001 - of the same class

    def _leave(self, batch: _Batch, row: asyncio.Future[Row]) -> None:
        """A photo has its answer or is given up; a request that nobody waits for is given up as well."""
        del batch.photos[row]
        if not batch.photos:
            self._replace_step(batch, None)
            if self._open is batch:
                self._open = None

    @staticmethod
    def _replace_step(batch: _Batch, step: asyncio.Handle | asyncio.Task[Rows] | None) -> None:
        if batch.step is not None:
            batch.step.cancel()
        batch.step = step


def _hand_out(rows: list[asyncio.Future[Row]], request: asyncio.Task[Rows]) -> None:
    failure = None if request.cancelled() else request.exception()
    for index, row in enumerate(rows):
        if row.done():  # given up
            continue
        if request.cancelled():
            row.cancel()
        elif failure is not None:
            row.set_exception(failure)
            row.exception()  # its photo may be given up before it sees this
        else:
            row.set_result(request.result()[index])
