"""One served model: how many requests it gets at once, and whether a failure is its own or the photo's."""

import asyncio
from time import monotonic
from typing import Final

import numpy as np
import numpy.typing as npt

from consumer.errors import DependencyDown, PhotoRejected, Retryable
from consumer.events import Pixels
from consumer.triton.concurrency import Concurrency
from consumer.triton.inference import TritonClient

#: A model that fails is asked whether it works again at most so often.
_PROBE_S: Final = 0.5
#: Answers that take longer than this part of the deadline are slow.
_SLOW: Final = 0.5


class Model:
    """One output of one version of a model.

    A failure is the photo's only if the model works on pixels that are known to be good: the first that it scored, or,
    before there are any, a drawn picture.
    """

    def __init__(
        self, client: TritonClient, name: str, version: str, *, output: str, values: int, input_size: int
    ) -> None:
        self.name = name
        self.concurrency = Concurrency(client.deadline_s * _SLOW)
        self._client = client
        self._version = version
        self._output = output
        self._values = values
        self._drawn = _gradient(input_size)
        self._good: Pixels | None = None
        #: Its last request failed for a reason that is not the photo's.
        self._doubted = False
        self._probing = asyncio.Lock()
        self._probed_s = 0.0
        #: Why it fails on pixels that are known to be good.
        self._failure: str | None = None

    async def ask(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """The answer for one photo.

        Raises:
            DependencyDown: as the client's.
            PhotoRejected: as the client's; the photo is suspected only.
            Retryable: likewise.
        """
        try:
            answer = await self._client.ask(self.name, self._version, self._output, self._values, pixels)
        except DependencyDown:
            self._doubted = True
            raise
        self._doubted, self._failure = False, None
        if self._good is None:
            self._good = pixels.copy()
        return answer

    async def require_working(self) -> None:
        """Returns at once unless the model failed on what it scored before; then it must work on that again.

        Raises:
            DependencyDown: it still fails.
        """
        if self._failure is not None and self._good is not None:
            await self._probe(monotonic() - _PROBE_S)

    async def require_recovered(self) -> None:
        """As `require_working`, also after a failure of any other kind; and answers must come.

        Raises:
            DependencyDown: it fails on pixels that are known to be good, or answers nothing.
        """
        if (silent_s := self.concurrency.silent_s()) > self._client.deadline_s:
            told = f"has {self.concurrency.sent} requests and answered none for {silent_s:.0f} s"
            raise DependencyDown("triton", f"{self.name} version {self._version} {told}")
        if self._doubted or self._failure is not None:
            await self._probe(monotonic() - _PROBE_S)

    async def require_innocent(self) -> None:
        """Asks for what is known to be good, after a failure that may be the photo's.

        Raises:
            DependencyDown: it fails as well.
        """
        await self._probe(monotonic())

    async def _probe(self, since_s: float) -> None:
        """Asks once for all callers; an answer to a request that was sent after `since_s` is new enough.

        Raises:
            DependencyDown: it fails.
        """
        async with self._probing:
            if self._probed_s < since_s:
                self._probed_s = monotonic()
                self._failure = await self._failure_on_good()
            if self._failure is not None:
                raise DependencyDown("triton", self._failure)

    async def _failure_on_good(self) -> str | None:
        known = self._drawn if self._good is None else self._good
        limit_s = self._client.deadline_s
        try:
            await self._client.ask(self.name, self._version, self._output, self._values, known, limit_s=limit_s)
        except DependencyDown as down:
            return down.detail
        except (PhotoRejected, Retryable) as failed:
            what = "a drawn picture" if self._good is None else "a photo that it scored before"
            return f"{self.name} version {self._version} fails on {what}: {failed.detail}"
        self._doubted = False
        return None


def _gradient(size: int) -> Pixels:
    """A picture with all tones: red grows to the right, green downwards, blue is in the middle."""
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    return np.stack(
        [
            np.broadcast_to(ramp, (size, size)),
            np.broadcast_to(ramp[:, None], (size, size)),
            np.full((size, size), 128, np.uint8),
        ],
        axis=-1,
    )
