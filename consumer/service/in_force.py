"""The release in force in this process, and what judges photos under it; follows the log of releases."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Final

from consumer.contract import ModelContract
from consumer.errors import ContractMismatch, DependencyDown
from consumer.events import Record
from consumer.releases import Numbered, Release, contract_under, differences, succeeds
from consumer.resilience import Dependencies
from consumer.steps import Judgement
from consumer.telemetry import Log, Metrics
from consumer.triton.inference import TritonClient
from consumer.triton.serving import Serving

#: Between two looks at what Triton serves, which take it 2 ms.
_LOOK_S: Final = 1.0
#: A release that Triton does not serve yet is looked for so often.
_AWAIT_S: Final = 0.5
_REMIND_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What judges under one release, and the models that it asks."""

    release: Numbered
    judgement: Judgement
    serving: Serving


async def served_under(client: TritonClient, release: Release) -> ModelContract:
    """The contract of a release, as Triton serves it.

    Raises:
        DependencyDown: Triton does not answer, or serves something else; its words say what.
    """
    try:
        served = await client.read_contract(release.quality.model, release.brand.model, release.models)
        return contract_under(release, served)
    except ContractMismatch as mismatch:
        raise DependencyDown("triton", f"it does not serve the release in force: {mismatch}") from None


class InForce:
    """The release in force, for one event loop.

    A newer one comes into force as soon as Triton serves it. Until then the one before stays, so that the promotion of
    something that is not loaded stops nothing. The first one is waited for.
    """

    def __init__(
        self,
        client: TritonClient,
        make: Callable[[Numbered, ModelContract], Bench],
        dependencies: Dependencies,
        log: Log,
        metrics: Metrics,
    ) -> None:
        self._client = client
        self._make = make
        self._dependencies = dependencies
        self._log = log
        self._metrics = metrics
        self._bench: Bench | None = None
        #: The newest release that was seen, which may not be in force yet, and the task that waits for it.
        self._newest: Numbered | None = None
        self._awaiting: asyncio.Task[None] | None = None
        self._unreadable = set[int]()
        #: Why the newest release is not in force yet.
        self.complaint: str | None = None

    @property
    def bench(self) -> Bench:
        """What judges now.

        Raises:
            RuntimeError: it has not begun.
        """
        if self._bench is None:
            raise RuntimeError("no release is in force yet")
        return self._bench

    def judgement(self) -> Judgement:
        """The steps under the release in force."""
        return self.bench.judgement

    async def begin(self, release: Numbered) -> None:
        """Puts the first release into force, once Triton serves it."""
        self._newest = release
        read = partial(served_under, self._client, release.release)
        self._enforce(release, await self._dependencies.retry_until_available("triton", read))

    def seen(self, release: Numbered) -> None:
        """A release stands in the log: it comes into force if it is newer and decides something else."""
        if not succeeds(release, self._newest):
            return
        self._newest = release
        self.close()
        self._awaiting = asyncio.get_running_loop().create_task(self._await(release))

    def unreadable(self, record: Record, why: str) -> None:
        """A record of the log is no release; it is passed over, and said once."""
        if record.offset not in self._unreadable:
            self._unreadable.add(record.offset)
            self._log.warning("release.unreadable", topic=record.topic, offset=record.offset, detail=why)

    def close(self) -> None:
        """Waits for no release any more."""
        if self._awaiting is not None:
            self._awaiting.cancel()

    async def watch(self) -> None:
        """Looks all the time whether Triton serves the release in force, also while no photo comes."""
        while True:
            await self._dependencies.retry_until_available("triton", self._check)
            await asyncio.sleep(_LOOK_S)

    async def _check(self) -> None:
        await self.bench.serving.check()

    async def _await(self, release: Numbered) -> None:
        said_s = 0.0
        while True:
            try:
                contract = await served_under(self._client, release.release)
                break
            except DependencyDown as down:
                self.complaint = f"release {release.number} is not served yet: {down.detail}"
                if monotonic() > said_s + _REMIND_S:
                    said_s = monotonic()
                    self._log.warning("release.awaited", release=release.number, detail=down.detail)
            await asyncio.sleep(_AWAIT_S)
        self._enforce(release, contract)

    def _enforce(self, release: Numbered, contract: ModelContract) -> None:
        before, self._bench = self._bench, self._make(release, contract)
        self.complaint = None
        self._metrics.release.set(release.number)
        what = release.release
        self._log.info(
            "release.enforced",
            release=release.number,
            models=contract.models,
            input_sizes={name: geometry.input_size for name, geometry in contract.geometries.items()},
            brands=len(contract.brand_labels) - 1,
            brand_threshold=contract.brand_threshold,
            good_threshold=contract.good_threshold,
            changed="" if before is None else differences(before.release.release, what),
            by=what.by,
            reason=what.reason,
        )
