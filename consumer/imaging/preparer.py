"""Decodes photos in threads, as many at once as their memory allows; the decoding itself is `decode.py`."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Final, Literal, Self

from consumer.budget import Budget
from consumer.contract import Geometry, Views
from consumer.errors import PhotoRejected, Reason, forget_frames
from consumer.events import Photo
from consumer.imaging.decode import SILENCE, Decoded, NeedsMemory, decode, opened
from consumer.imaging.decode_threads import DecodeThreads, Overdue
from consumer.imaging.limits import Check, Header, PrepareLimits, checks

#: The memory that is enough for nearly every photo: JPEG as cameras write it, and others up to two megapixels.
USUAL_BYTES: Final = 32 * 1024 * 1024
_NO_MEMORY: Final = "not enough memory to decode it, alone as well"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The outcome of preparing one photo, and why."""

    outcome: Literal["pixels"] | Reason
    #: Why it is rejected, else empty.
    detail: str
    #: None if the header cannot be read.
    header: Header | None
    #: Every limit with this photo's value; empty if the header cannot be read.
    checks: tuple[Check, ...]
    #: The EXIF orientation that was applied, None if nothing was decoded.
    orientation: int | None
    decode_ms: float


def explain(body: bytes, geometries: Collection[Geometry], limits: PrepareLimits) -> Explanation:
    """The outcome of `Preparer.prepare` for this body, with what decided it; decodes it in the calling thread."""
    started, wanted = perf_counter(), frozenset(geometries)
    header, orientation = None, None
    outcome: Literal["pixels"] | Reason = "pixels"
    detail = ""
    try:
        with opened(body, wanted, limits) as (_, header):
            pass
        orientation = decode(body, wanted, limits).orientation
    except PhotoRejected as rejected:
        outcome, detail = rejected.reason, rejected.detail
    except MemoryError:
        outcome, detail = "host_exhausted", _NO_MEMORY
    applied = () if header is None else checks(header, limits)
    return Explanation(outcome, detail, header, applied, orientation, (perf_counter() - started) * 1000)


class Preparer:
    """Decodes in threads, as many photos at once as there are threads and as their memory allows.

    Pillow releases the GIL while it decodes. A photo that may need more than the usual share of memory comes back from
    its thread before it is decoded and waits for a larger one; no photo behind it in that queue overtakes it.
    """

    def __init__(self, limits: PrepareLimits, *, threads: int = 2, timeout_s: float = 20.0) -> None:
        self._limits = limits
        self._timeout_s = timeout_s
        self._memory = Budget(limits.max_decode_bytes)
        self._usual_bytes = min(USUAL_BYTES, self._memory.total)
        self._threads = DecodeThreads[Decoded](threads, timeout_s)
        #: Photos that are being prepared or wait for their turn.
        self.preparing = 0

    def __enter__(self) -> Self:
        SILENCE.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.close()
        SILENCE.__exit__()

    @property
    def overdue(self) -> int:
        """Decodes that passed the time limit and still use a core: a thread cannot be stopped, a process can."""
        return self._threads.overdue

    async def prepare(self, geometries: frozenset[Geometry], photo: Photo) -> Views:
        """The pixels of a photo, for each geometry.

        The time limit runs from the start of the decode, not from its place in the queue. A decode that fails for lack
        of memory is tried once more with nothing beside it.

        Raises:
            PhotoRejected: as `decode`, or `decode_timeout`.
            MemoryError: the memory was not enough then either; that says more of this host than of the photo, whose
                need was checked against `max_decode_bytes`.
        """
        self.preparing += 1
        try:
            return await self._views(geometries, photo)
        except PhotoRejected as rejected:
            forget_frames(rejected)
            raise
        finally:
            self.preparing -= 1

    async def _views(self, geometries: frozenset[Geometry], photo: Photo) -> Views:
        try:
            try:
                return await self._within(self._usual_bytes, geometries, photo)
            except NeedsMemory as large:
                return await self._within(large.memory_bytes, geometries, photo)
        except MemoryError:
            return await self._alone(geometries, photo)

    async def _alone(self, geometries: frozenset[Geometry], photo: Photo) -> Views:
        try:
            return await self._within(self._memory.total, geometries, photo)
        except MemoryError:
            # A new one: the old one's frames hold the bytes of the photo.
            raise MemoryError(_NO_MEMORY) from None

    async def _within(self, memory_bytes: int, geometries: frozenset[Geometry], photo: Photo) -> Views:
        """Decodes once the memory is free, and then a thread; the decode holds its memory as long as it runs.

        Raises:
            PhotoRejected: as `prepare`.
            RuntimeError: this host has no thread left for it.
        """
        permit = await self._memory.acquire(memory_bytes)
        work = partial(decode, photo.body, geometries, self._limits, memory_bytes)
        try:
            decoding = self._threads.start(work, permit.release)
        except RuntimeError:
            permit.release()
            raise
        try:
            return (await decoding).views
        except Overdue:
            raise PhotoRejected("decode_timeout", f"not decoded within {self._timeout_s:g} s") from None
        finally:
            # The failure refers to this frame, which must not refer to it: bytes in a cycle are freed late.
            del decoding, work
