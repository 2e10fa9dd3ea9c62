"""Small pictures of photos, fetched as the service fetches them: only from where it may, within its limits.

A browser names a photo, never an address: the URI is read from the photo's event in Kafka. What was drawn is kept for a
while, and so is that nothing could be.
"""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from consumer.budget import Budget
from consumer.errors import PhotoRejected, Retryable, TaggerError
from consumer.events import PhotoUploaded, Source
from consumer.fetch.fetcher import Fetcher
from consumer.service import construction
from consumer.settings import Settings
from consumer.web import thumbnails
from consumer.webserver.records import Records

#: Fetches and decodes at once: the page must leave the machine to the service beside it.
_FETCHES: Final = 6
_DECODES: Final = 2
_IN_FLIGHT_BYTES: Final = 64 * 1024 * 1024
_KEPT_BYTES: Final = 48 * 1024 * 1024
#: What a picture that is not there takes of that, too.
_LEAST_BYTES: Final = 1024
_FAILURE_KEPT_S: Final = 30.0
_DEADLINE_S: Final = 15.0
#: A photo that is missing is not waited for.
_LONG_AGO: Final = datetime.fromtimestamp(0, UTC)
_SIDE: Final = 480


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG, or why there is none."""

    jpeg: bytes = b""
    why: str = ""


class Pictures:
    """Draws and keeps pictures; an async context manager."""

    def __init__(self, settings: Settings, records: Records) -> None:
        self._records = records
        self._fetcher = Fetcher(construction.fetch_limits(settings), Budget(_IN_FLIGHT_BYTES))
        self._places = asyncio.Semaphore(_FETCHES)
        self._drawing = ThreadPoolExecutor(_DECODES, thread_name_prefix="decode")
        self._kept: OrderedDict[tuple[str, Source], tuple[float, Picture]] = OrderedDict()
        self._kept_bytes = 0
        self._flights: dict[tuple[str, Source], asyncio.Task[Picture]] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._fetcher)
        return self

    async def __aexit__(self, *_: object) -> None:
        for flight in self._flights.values():
            flight.cancel()
        await asyncio.gather(*self._flights.values(), return_exceptions=True)
        self._drawing.shutdown(wait=False, cancel_futures=True)
        await self._stack.aclose()

    async def of(self, photo_id: str, place: Source) -> Picture:
        """The picture of the photo whose event is at a place; asked for twice, it is drawn once."""
        key = photo_id, place
        until_s, kept = self._kept.get(key, (0.0, Picture()))
        if until_s > asyncio.get_running_loop().time():
            self._kept.move_to_end(key)
            return kept
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._draw(key))
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return await asyncio.shield(flight)

    async def _draw(self, key: tuple[str, Source]) -> Picture:
        try:
            async with asyncio.timeout(_DEADLINE_S), self._places:
                picture = await self._drawn(*key)
        except TimeoutError:
            picture = Picture(why=f"it could not be shown within {_DEADLINE_S:g} s")
        except (PhotoRejected, Retryable) as refused:
            picture = Picture(why=f"{refused.reason}: {refused.detail}")
        except TaggerError as error:
            picture = Picture(why=str(error))
        self._keep(key, picture)
        return picture

    async def _drawn(self, photo_id: str, place: Source) -> Picture:
        """The picture, or that its event is gone or cannot be drawn.

        Raises:
            TaggerError: it cannot be fetched, or Kafka does not answer.
        """
        event = await self._records.upload(photo_id, place)
        if event is None:
            return Picture(why="its upload event is in Kafka no more")
        photo = await self._fetcher.fetch(PhotoUploaded(photo_id, event.uri, _LONG_AGO))
        try:
            body = photo.body
            loop = asyncio.get_running_loop()
            jpeg = await loop.run_in_executor(self._drawing, _drawn, body)
        finally:
            photo.drop()
        return Picture(jpeg) if jpeg else Picture(why="its bytes cannot be shown")

    def _keep(self, key: tuple[str, Source], picture: Picture) -> None:
        now_s = asyncio.get_running_loop().time()
        before = self._kept.pop(key, None)
        self._kept_bytes -= _size(before[1]) if before else 0
        self._kept[key] = now_s + (3600.0 if picture.jpeg else _FAILURE_KEPT_S), picture
        self._kept_bytes += _size(picture)
        while self._kept_bytes > _KEPT_BYTES:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._kept_bytes -= _size(dropped)


def _drawn(body: bytes) -> bytes | None:
    """The picture of a photo, or of the part that there is of one that breaks off."""
    return thumbnails.jpeg(body, _SIDE) or thumbnails.partial_jpeg(body, _SIDE)


def _size(picture: Picture) -> int:
    return len(picture.jpeg) + _LEAST_BYTES
