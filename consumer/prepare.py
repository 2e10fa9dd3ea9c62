"""Photos become pixels in threads, as many at once as their memory allows; the decoding itself is `decode.py`."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Literal, Self

from consumer.contract import Geometry
from consumer.decode import SILENCE, Check, Header, PrepareLimits, checks, decode, inspect, to_pixels
from consumer.errors import PhotoRejected, Reason
from consumer.events import Photo, Pixels


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of one photo, and why."""

    outcome: Literal["pixels"] | Reason
    #: Why it is refused; empty where it is not.
    detail: str
    #: None where the header cannot be read.
    header: Header | None
    #: Every limit that applies, with what this photo has of it; empty where the header cannot be read.
    checks: tuple[Check, ...]
    #: The EXIF orientation that was applied, None where nothing was decoded.
    orientation: int | None
    decode_ms: float


def explain(body: bytes, geometry: Geometry, limits: PrepareLimits) -> Explanation:
    """What `Preparer.prepare` would say of this body, and what of it decided; decodes it here and now."""
    started = perf_counter()
    header, orientation = None, None
    outcome: Literal["pixels"] | Reason = "pixels"
    detail = ""
    try:
        header = inspect(body, geometry, limits)
        orientation = decode(body, geometry, limits).orientation
    except PhotoRejected as rejected:
        outcome, detail = rejected.reason, rejected.detail
    applied = () if header is None else checks(header, limits)
    return Explanation(outcome, detail, header, applied, orientation, (perf_counter() - started) * 1000)


class Preparer:
    """Decodes in threads, as many photos at once as there are threads: Pillow leaves the GIL while it decodes."""

    def __init__(self, geometry: Geometry, limits: PrepareLimits, *, threads: int = 2, timeout_s: float = 20.0) -> None:
        self._geometry = geometry
        self._limits = limits
        self._threads = threads
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(threads)
        self._pool = self._new_pool()
        self._overdue: set[asyncio.Future[Pixels]] = set()

    def __enter__(self) -> Self:
        SILENCE.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        SILENCE.__exit__(kind, error, trace)

    @property
    def overdue(self) -> int:
        """Decodes that passed the time limit and still burn a core: threads cannot be stopped, a process can."""
        return len(self._overdue)

    async def prepare(self, photo: Photo) -> Pixels:
        """The pixels of a photo; the time limit runs from the start of the decode, not from its place in the queue.

        Raises:
            PhotoRejected: as `to_pixels`, or `decode_timeout`.
        """
        async with self._slots:
            decode = asyncio.get_running_loop().run_in_executor(
                self._pool, to_pixels, photo.body, self._geometry, self._limits
            )
            decode.add_done_callback(_retrieve)
            await asyncio.wait({decode}, timeout=self._timeout_s)
            if not decode.done():
                self._abandon(decode)
                raise PhotoRejected("decode_timeout", f"not decoded within {self._timeout_s:g} s")
            return decode.result()

    def _abandon(self, decode: asyncio.Future[Pixels]) -> None:
        """Leave the old threads to the decode that hangs and go on with new ones, so that no other photo waits."""
        self._overdue.add(decode)
        decode.add_done_callback(self._overdue.discard)
        self._pool.shutdown(wait=False)
        self._pool = self._new_pool()

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="decode")


def _retrieve(decode: asyncio.Future[Pixels] | Future[Pixels]) -> None:
    """Look at the outcome of a decode that nobody waits for any more, or asyncio reports it as lost."""
    if not decode.cancelled():
        decode.exception()
