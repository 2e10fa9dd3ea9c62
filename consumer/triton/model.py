"""One served model: how many photos it gets at once, and whether a failure is its own or the photo's."""

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Final

import numpy as np

from consumer.errors import DependencyDown, PhotoRejected, Retryable
from consumer.events import Pixels
from consumer.triton.batches import Batches, Row, Rows
from consumer.triton.concurrency import Concurrency
from consumer.triton.failures import Unanswered
from consumer.triton.inference import Question, TritonClient

#: A model that fails is asked whether it works again at most so often.
_PROBE_S: Final = 0.5
#: Answers that take longer than this part of the deadline are slow.
_SLOW: Final = 0.5
#: So often in a row a model has to work on good pixels before a photo is blamed: it may fail by chance.
_PROOFS: Final = 3
#: After this part of the longest wait for an answer, good pixels are asked for as well.
_CHECK: Final = 0.6
#: A request of several photos is given up, and each is asked for alone, once one that was sent so many deadlines later
#: was answered: one of them takes long.
_OVERTAKEN: Final = 2
#: A request costs this process 0.34 ms with one photo, 0.61 with 8 and 0.77 with 16, which few are ready for at once.
_MOST_PHOTOS: Final = 8
#: Photos wait for one more for each so many that are being prepared: they waited longer for their own turn. Where few
#: are being prepared, as at low load, they wait for none.
_FOR_ONE_MORE: Final = 4


class Model:
    """One output of one version of a model.

    A failure is the photo's only if the model works on pixels that are known to be good: the first that it scored, or,
    before there are any, a drawn picture.
    """

    def __init__(
        self,
        client: TritonClient,
        name: str,
        version: str,
        *,
        output: str,
        values: int,
        input_size: int,
        contract: int,
        preparing: Callable[[], int],
        beside: list[Batches] | None = None,
        yields: bool = False,
    ) -> None:
        self.name = name
        self.concurrency = Concurrency(client.deadline_s * _SLOW, yields=yields)
        self._client = client
        self._version = version
        self._question = Question(name, version, output, values, contract)
        self._preparing = preparing
        self._batches = Batches(self._judge, self._most_photos, self._expected, beside)
        self._drawn = _gradient(input_size)
        self._good: Pixels | None = None
        #: Its last request failed for a reason that is not the photo's.
        self._doubted = False
        #: When the last of the requests that were answered was sent.
        self._working_s = -inf
        self._probe: asyncio.Task[None] | None = None
        #: When the last one that has ended was sent.
        self._probed_s = -inf
        #: Why it fails on pixels that are known to be good.
        self._failure: str | None = None

    async def ask(self, pixels: Pixels) -> Row:
        """The answer for one photo, which may share its request with others.

        Raises:
            DependencyDown: as the client's.
            Unanswered: as the client's.
            PhotoRejected: as the client's; the photo is suspected only.
            Retryable: likewise; or it was not answered, while others were that were sent much later.
        """
        return await self._batches.ask(pixels)

    async def _judge(self, photos: Sequence[Pixels]) -> Rows:
        """The answers to one request; a failure that may be a photo's may be that of any.

        Raises:
            DependencyDown: as `ask`.
            Unanswered: as `ask`.
            Retryable: as `ask`.
        """
        sent_s, patience_s = monotonic(), self._client.patience_s
        # In the second half of a long wait, is anything else answered? There may be no other photo to tell.
        check = asyncio.get_running_loop().call_later(_CHECK * patience_s, self._begin_probe)
        try:
            rows = await (self._request(photos) if len(photos) == 1 else self._request_unless_overtaken(photos))
        except Unanswered:
            if self._working_s > sent_s + patience_s / 2:
                waited = f"{self.name} answered others, but not this photo in {patience_s:g} s"
                raise Retryable("inference_failed", waited) from None
            self._doubted = True
            raise
        except DependencyDown:
            self._doubted = True
            raise
        finally:
            check.cancel()
        self._failure = None
        if self._good is None:
            self._good = photos[0].copy()
        return rows

    async def _request_unless_overtaken(self, photos: Sequence[Pixels]) -> Rows:
        sent_s, deadline_s = monotonic(), self._client.deadline_s
        request = asyncio.create_task(self._request(photos))
        request.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            while not (await asyncio.wait({request}, timeout=deadline_s))[0]:
                if self._working_s > sent_s + _OVERTAKEN * deadline_s:
                    raise Retryable(
                        "inference_failed", f"{self.name} answered others, but none of {len(photos)} photos"
                    )
            return request.result()
        finally:
            request.cancel()

    def _most_photos(self) -> int:
        if self._doubted:  # what answers by chance, or nothing large, answers a lone photo sooner
            return 1
        return min(_MOST_PHOTOS, self._client.most_photos(self.name), self.concurrency.allowed)

    def _expected(self) -> int:
        """How many photos are worth waiting for.

        Those that wait for a place are ready, and get theirs as others are answered: were they not waited for, a small
        request would be followed by small ones for as long as Triton has all that it may have.
        """
        return self._preparing() // _FOR_ONE_MORE + self.concurrency.waiting

    async def require_working(self) -> None:
        """Returns at once unless the model failed on what it scored before; then it must work on that again.

        Raises:
            DependencyDown: it still fails.
        """
        if self._failure is not None and self._good is not None:
            await self._require_good(monotonic() - _PROBE_S)

    async def require_recovered(self) -> None:
        """As `require_working`, also after a failure of any other kind; and answers must come.

        Raises:
            DependencyDown: it fails on pixels that are known to be good, or answers nothing.
        """
        if self.concurrency.silent_s() > self._client.deadline_s / 2:
            await self._require_answers(self._client.deadline_s / 2)
        if self._doubted or self._failure is not None:
            await self._require_good(monotonic() - _PROBE_S)

    async def require_innocent(self) -> None:
        """Asks for what is known to be good, after a failure that may be the photo's.

        Raises:
            DependencyDown: it fails as well.
        """
        for _ in range(_PROOFS):
            await self._require_good(monotonic())

    async def _require_answers(self, limit_s: float) -> None:
        """It may be at work on some photos for long: then it answers for good pixels meanwhile.

        Raises:
            DependencyDown: it answers nothing.
        """
        probe = self._begin_probe()
        await asyncio.wait({probe}, timeout=limit_s)
        if not probe.done() and (silent_s := self.concurrency.silent_s()) > limit_s:
            told = f"has {self.concurrency.sent} photos and answered none for {silent_s:.1f} s"
            raise DependencyDown("triton", f"{self.name} version {self._version} {told}")

    async def _require_good(self, since_s: float) -> None:
        """Asks once for all callers; an answer to a request that was sent after `since_s` is new enough.

        Raises:
            DependencyDown: it fails.
        """
        while self._probed_s < since_s:
            await asyncio.shield(self._begin_probe())
        if self._failure is not None:
            raise DependencyDown("triton", self._failure)

    def _begin_probe(self) -> asyncio.Task[None]:
        """The probe that is under way, else a new one."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._ask_for_good())
        return self._probe

    async def _ask_for_good(self) -> None:
        sent_s = monotonic()
        try:
            async with self.concurrency.extra():
                await self._request([self._drawn if self._good is None else self._good])
        except DependencyDown as down:
            self._failure, self._doubted = down.detail, True
        except (PhotoRejected, Retryable) as failed:
            what = "a drawn picture" if self._good is None else "a photo that it scored before"
            self._failure = f"{self.name} version {self._version} fails on {what}: {failed.detail}"
        else:
            self._failure = None
        self._probed_s = sent_s

    async def _request(self, photos: Sequence[Pixels]) -> Rows:
        sent_s = monotonic()
        rows = await self._client.ask(self._question, photos)
        self._working_s, self._doubted = max(self._working_s, sent_s), False
        return rows


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
