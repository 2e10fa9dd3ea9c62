"""Both models under the contract of a release: scores are given only while Triton serves exactly that."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final
from weakref import finalize

from consumer.contract import ModelContract, Views, differences
from consumer.errors import ContractMismatch, DependencyDown, PhotoRejected, Retryable
from consumer.events import Pixels, Scores
from consumer.triton.batches import Row
from consumer.triton.inference import TritonClient
from consumer.triton.model import Model
from consumer.triton.turns import Turns

_UNKNOWN: Final = -1
#: A look on behalf of answers costs 2 ms of computing here and at Triton. The next one begins after so many times what
#: the last one took: soon where nothing else is computed, and seldom where all are busy; and after this at the latest.
_LOOKS_APART: Final = 4
_PACE_S: Final = 0.05
#: But it waits so long for each photo that is being prepared or judged: those waited longer for their own turn, and
#: what is answered meanwhile is written and published together.
_FOR_EACH_S: Final = 0.0025
_LONGEST_S: Final = 0.2

#: How often the connection was lost, and how often something else was found to be served.
_Changes = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Answer:
    """The row of one model, and the changes until its request was sent."""

    row: Row
    before: _Changes


class Serving:
    """The two models of a contract, for one event loop.

    The contract is read again before the first request over each connection and after each failure. The labels are not
    part of an answer, but a model with the output `contract_id` says there what the answer was made under. After one
    that does not say, the contract is read again as well: it is used if the contract was served before and after it,
    over one connection. Photos share these looks. The thresholds are the release's: those that Triton has do not count.

    `preparing` says how many photos are being prepared: those that are ready wait for some of them, to share a request.
    With `turns` it leaves Triton to others: it keeps no more photos there than are answered nearly at once, and they go
    one by one while live ones come.
    """

    def __init__(
        self,
        client: TritonClient,
        contract: ModelContract,
        preparing: Callable[[], int] = lambda: 0,
        turns: Turns | None = None,
    ) -> None:
        self._client = client
        self._contract = contract
        self._turns = turns
        self._preparing = preparing if turns is None else lambda: 0 if turns.yielding() else preparing()
        model = partial(Model, client, preparing=self._preparing, beside=[], yields=turns is not None)
        self._quality = model(
            contract.quality_model,
            contract.quality_version,
            output="quality_score",
            values=1,
            input_size=contract.quality_geometry.input_size,
            contract=contract.contract_ids[contract.quality_model],
        )
        self._brand = model(
            contract.brand_model,
            contract.brand_version,
            output="brand_probs",
            values=len(contract.brand_labels),
            input_size=contract.brand_geometry.input_size,
            contract=contract.contract_ids[contract.brand_model],
        )
        #: The number of lost connections when the contract was last found in force; reading it counted them.
        self._confirmed = _UNKNOWN
        #: How often something else was found to be served.
        self._refuted = 0
        #: Answers to photos for which the other model failed, by the identity of their pixels.
        self._kept: dict[tuple[int, Model], _Answer] = {}
        #: The configurations of the contract, as they were read last.
        self._configs: Mapping[str, Any] = {}
        self._looking: asyncio.Task[None] | None = None
        self._confirming: asyncio.Task[None] | None = None
        #: When the look began that found the contract in force last, and how long after it the next one may begin.
        self._looked_s = -inf
        self._pace_s = 0.0

    async def infer(self, views: Views) -> Scores:
        """The scores of one photo from both models, concurrently, each for the pixels of its geometry.

        It waits for both, also where one fails, and keeps the other's answer for the next call with the same arrays,
        so that nothing is computed twice.

        Raises:
            DependencyDown: Triton is unavailable, overloaded, or serves another contract.
            PhotoRejected: `inference_rejected`, Triton refuses these pixels and takes others.
            Retryable: `inference_failed`, a model failed on them and not on others.
        """
        judge = partial(self._both, views)
        quality, brand = await (judge() if self._turns is None else self._turns.taken(judge))
        if unproven := {answer.before for answer in (quality, brand) if not answer.row.proven}:
            await self._require_unchanged(unproven)
        return Scores(float(quality.row.values[0]), brand.row.values, self._contract.models)

    async def _both(self, views: Views) -> tuple[_Answer, _Answer]:
        """The answers of quality and brand model, as `infer`.

        Raises:
            DependencyDown: as `infer`.
            PhotoRejected: as `infer`.
            Retryable: as `infer`.
        """
        good, branded = views[self._contract.quality_geometry], views[self._contract.brand_geometry]
        beside = asyncio.create_task(_settled(self._ask(self._brand, branded)))
        try:
            quality, brand = await _settled(self._ask(self._quality, good)), await beside
        finally:
            beside.cancel()  # where this photo is given up
        if isinstance(quality, Exception) or isinstance(brand, Exception):
            self._keep(self._quality, good, quality)
            self._keep(self._brand, branded, brand)
            failures = [answer for answer in (quality, brand) if isinstance(answer, Exception)]
            worst = next((failure for failure in failures if isinstance(failure, DependencyDown)), failures[0])
            raise worst
        return quality, brand

    async def check(self) -> None:
        """Looks whether the contract is served and the models answer.

        Raises:
            DependencyDown: they do not; its words say what is waited for.
        """
        await self._look()
        await asyncio.gather(self._quality.require_recovered(), self._brand.require_recovered())

    def _keep(self, model: Model, pixels: Pixels, answer: _Answer | Exception) -> None:
        """Keeps what a model answered while the other one failed, until these pixels come again or are dropped."""
        if isinstance(answer, _Answer):
            key = id(pixels), model
            if key not in self._kept:
                finalize(pixels, self._kept.pop, key, None)
            self._kept[key] = answer

    async def _ask(self, model: Model, pixels: Pixels) -> _Answer:
        kept = self._kept.get((id(pixels), model))
        if kept is not None and (kept.row.proven or kept.before == self._changes):
            return kept
        await model.require_working()
        try:
            return await self._answer(model, pixels)
        except DependencyDown as down:
            failure: DependencyDown | PhotoRejected | Retryable = down
        except (PhotoRejected, Retryable) as suspicion:
            failure = suspicion
        # Triton may serve something else by now: that explains more than the failure does.
        await self._look()
        if not isinstance(failure, DependencyDown):
            await model.require_innocent()
        if isinstance(failure, PhotoRejected):
            # The model may have failed on all until a moment ago: what it refuses after its proof is the photo's.
            return await self._answer(model, pixels)
        raise failure

    async def _answer(self, model: Model, pixels: Pixels) -> _Answer:
        async with model.concurrency.place():
            while self._confirmed != self._client.losses:
                await self._look()
            before = self._changes
            return _Answer(await model.ask(pixels), before)

    @property
    def _changes(self) -> _Changes:
        return self._client.losses, self._refuted

    async def _require_unchanged(self, before: set[_Changes]) -> None:
        """Waits until a look that began after this call finds the contract in force, as `before` the answers.

        A look that gets no answer is repeated for a while: the photo's answer was computed and need not be again.

        Raises:
            DependencyDown: the contract or the connection changed, or no look was answered.
        """
        answered_s = monotonic()
        while before == {self._changes} and self._looked_s < answered_s:
            try:
                await self._confirm()
            except DependencyDown:
                if monotonic() > answered_s + self._client.patience_s:
                    raise
                await asyncio.sleep(_PACE_S)
        if before != {self._changes}:
            raise DependencyDown("triton", "the connection or the models changed while this photo was judged")

    async def _confirm(self) -> None:
        """Finds the contract in force, or not, by the configurations alone where these are as they were read.

        Not at once, so that more answers share the look.

        Raises:
            DependencyDown: Triton does not answer, or what it serves does not fit.
        """
        if self._confirming is None or self._confirming.done():
            self._confirming = asyncio.create_task(self._compare())
            self._confirming.add_done_callback(lambda look: look.cancelled() or look.exception())
        await asyncio.shield(self._confirming)

    async def _compare(self) -> None:
        photos = self._preparing() + self._quality.concurrency.sent
        pace_s = max(self._pace_s, min(photos * _FOR_EACH_S, _LONGEST_S))
        await asyncio.sleep(self._looked_s + pace_s - monotonic())
        losses, began_s = self._client.losses, monotonic()
        if self._confirmed == losses and await self._client.still_configured(self._configs):
            self._looked_s = began_s
            self._pace_s = min(_LOOKS_APART * (monotonic() - began_s), _PACE_S)
        else:
            await self._look()

    async def _look(self) -> None:
        """As `check`, for the contract alone; concurrent callers share one look.

        Raises:
            DependencyDown: as `check`.
        """
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._read())
            # Its callers may be cancelled before it fails.
            self._looking.add_done_callback(lambda look: look.cancelled() or look.exception())
        await asyncio.shield(self._looking)

    async def _read(self) -> None:
        known, losses, began_s = self._contract, self._client.losses, monotonic()
        try:
            served = await self._client.read(known.quality_model, known.brand_model, known.models)
        except DependencyDown:
            self._confirmed = _UNKNOWN
            raise
        except ContractMismatch as mismatch:
            self._refute()
            raise DependencyDown("triton", f"the served models do not fit any more: {mismatch}") from None
        if other := differences(known, served.contract):
            self._refute()
            raise DependencyDown("triton", f"other models are served now: {other}")
        self._configs = served.configs
        self._confirmed, self._looked_s = losses, began_s

    def _refute(self) -> None:
        self._confirmed = _UNKNOWN
        self._refuted += 1


async def _settled(asking: Coroutine[Any, Any, _Answer]) -> _Answer | Exception:
    try:
        return await asking
    except Exception as failure:  # noqa: BLE001 - of one model, which is raised once the other has its answer
        return failure
