"""A change of the models, as an operator makes it, on the photos of the demo: run, compare, promote.

The demo begins with the versions before the newest in force. Once its photos have tags, a run judges them under the
newest beside that; the page of what would change is written, and the run is promoted.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from consumer.demo import traffic
from consumer.demo.ledger import Ledger, left_behind, problems_of
from consumer.demo.photos import DemoPhoto
from consumer.demo.report import Reporter
from consumer.demo.traffic import DemoFailed
from consumer.errors import NotFound, TaggerError
from consumer.events import Tags
from consumer.operations import models, promotion, run_diff, run_release, run_work, runs
from consumer.operations.model_folder import ModelFolder, required_folder
from consumer.operations.models import Listed
from consumer.operations.promotion import Wish
from consumer.operations.run_progress import Progress
from consumer.operations.runs import Plan
from consumer.releases import ModelVersion, Release
from consumer.runs.definition import Run
from consumer.runs.report import Report
from consumer.service import release_log
from consumer.settings import made_of
from consumer.telemetry import Log, configure_logging
from consumer.triton.repository import READY
from consumer.web import diff as diff_page
from consumer.web import thumbnails
from consumer.web.gallery import Link

#: The name of the page, and of the report and the log beside it.
NAME: Final = "change"
_RUN_ID: Final = "demo"
_PATIENCE_S: Final = 60.0
_FIRST: Final = "the demo begins with the versions before the newest"
_ASKED: Final = "the demo: what would the newest versions change?"
_PROMOTED: Final = "the demo shows how it is done; its photos are too few to decide by"
#: A few photos say nothing about shares: the demo promotes whatever they are. All else is required as ever: the run is
#: complete, and versions with golden photos answer to them here as they did where they were published.
_OPEN_GATES: Final = {
    "min_photos": 0,
    **dict.fromkeys(("max_level_jumps", "max_brands_lost", "max_mean_shift", "max_not_judged"), 1.0),
}

_Progressed = Callable[[], None]


class ModelChange:
    """From the versions before the newest to the newest; what fails is a problem, and the demo goes on without."""

    def __init__(self, variables: Mapping[str, str], output: Path, reporter: Reporter) -> None:
        """Takes the settings of the service as environment variables, and the folder of page, report and log."""
        self._settings = made_of(variables)
        self._page = output / f"{NAME}.html"
        self._log_path = output / "logs" / f"{NAME}.log"
        self._reporter = reporter
        #: Which versions the run is to judge under; None where there is nothing to change to.
        self._newest: Wish | None = None
        #: What the run found, once its page is written; and the release that it became.
        self._report: Report | None = None
        self._release: int | None = None
        #: Why the change ended early, in one line.
        self._failure: str | None = None

    def begin(self) -> None:
        """Puts the versions before the newest in force, and says so, or that there are none; before the service runs.

        Raises:
            KeyboardInterrupt: A signal asked to stop.
        """
        self._attempt(self._begin)

    def carry_out(self, require_running: Callable[[], None]) -> None:
        """Runs, compares and promotes; does nothing where `begin` found nothing to change to.

        Args:
            require_running: Called about once a second of the run; may raise a `TaggerError` to stop.

        Raises:
            KeyboardInterrupt: A signal asked to stop.
        """
        newest = self._newest
        if newest is not None:
            self._attempt(lambda log, progressed: self._carry_out(log, progressed, newest, require_running))

    @property
    def link(self) -> Link | None:
        """To the page, which says how many photos change; None where none was written."""
        if self._report is None:
            return None
        about = "Newer models were tried on these photos, and are not in force:"
        if self._release is not None:
            about = f"Release {self._release} came into force at the end of the demo:"
        return Link(f"{NAME}.html", _said(self._report), about)

    def problems(
        self, photos: Sequence[DemoPhoto], ledger: Ledger, stored: Mapping[str, Tags], *, all_tagged: bool
    ) -> list[str]:
        """What is wrong after the change, a line each, as `ledger.problems_of`; `stored` are the tags in Redis then.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        if self._failure is not None or self._release is None:
            return [self._failure] if self._failure is not None else []
        kafka = self._settings.kafka
        now = ledger.after(traffic.newest_results(kafka.bootstrap_servers, kafka.topics))
        found = problems_of(photos, now, stored, all_tagged=all_tagged)
        return [*found, *left_behind(photos, stored, self._release)]

    def _attempt(self, step: Callable[[Log, _Progressed], Awaitable[None]]) -> None:
        async def bounded(log: Log) -> None:
            async with _patience() as progressed:
                await step(log, progressed)

        try:
            with self._log_path.open("a", encoding="utf-8") as stream:
                asyncio.run(bounded(configure_logging("info", "json", stream)))
        except (TaggerError, OSError) as error:
            self._failure = f"the change of models failed: {' '.join(str(error).split())}; its log is {self._log_path}"

    async def _begin(self, _log: Log, _progressed: _Progressed) -> None:
        triton, listed = self._settings.triton, await models.list_versions(self._settings)
        before, newest = wishes(listed, triton.quality_model, triton.brand_model)
        if before == newest:
            self._reporter.note("there is one version of each model, so that no change of models is shown")
            return
        release = await promotion.wished(self._settings, before, None, _FIRST)
        appended = await asyncio.to_thread(release_log.append, self._settings.kafka, release)
        self._newest = newest
        self._reporter.step(f"release {appended.number} is in force: {_judges(release)}")

    async def _carry_out(
        self, log: Log, progressed: _Progressed, newest: Wish, require_running: Callable[[], None]
    ) -> None:
        settings = self._settings
        run = await runs.prepare(settings, newest, Plan(), _ASKED, _RUN_ID)
        await asyncio.to_thread(runs.start, settings, run)
        with self._reporter.progress("judging", run.total) as advance:
            judged = 0

            def told(progress: Progress) -> None:
                nonlocal judged
                require_running()
                # Of this process, which is the run's only worker; an outcome is counted before its offset is committed.
                now = min(run.total, sum(progress.outcomes.values()))
                for _ in range(judged, now):
                    advance()
                    progressed()
                judged = now

            if not (await run_work.work(settings, log, run, told)).complete:
                raise KeyboardInterrupt  # the worker takes the signals for itself
        progressed()
        found = await run_diff.diff(settings, _RUN_ID, thumbnails.jpeg)
        diff_page.write(found.report, found.pictures, self._page)
        self._report = found.report
        self._reporter.step(f"a run judged them under {_judges(run.candidate)}: {_said(found.report)}")
        progressed()
        await self._promote(log, progressed, run, len(found.report.gates.violations))

    async def _promote(self, log: Log, progressed: _Progressed, run: Run, closed_gates: int) -> None:
        settings = self._settings
        new = {run.candidate.quality, run.candidate.brand} - {run.base.quality, run.base.brand}
        unverified = without_golden(required_folder(settings), new)
        against = [f"{closed_gates} of its gates do not hold (the page says which)"] if closed_gates else []
        against += [f"there are no golden photos to verify {' and '.join(unverified)} with"] if unverified else []
        if against:
            self._reporter.note(f"a demo promotes it all the same, as --force does: {'; '.join(against)}")
        lenient = settings.model_copy(update={"gates": settings.gates.model_copy(update=_OPEN_GATES)})
        applied = await run_release.promote(
            lenient, log, _RUN_ID, _PROMOTED, lambda *_: progressed(), forced=bool(unverified)
        )
        self._release = applied.release
        self._reporter.step(f"release {applied.release} is in force: {_judges(run.candidate)}")
        if applied.refused or not applied.closing.complete:
            raise DemoFailed(f"not all tags are of release {applied.release}: {applied.refused} were refused")


def wishes(listed: Sequence[Listed], quality_model: str, brand_model: str) -> tuple[Wish, Wish]:
    """Of the versions that Triton serves, those before the newest and the newest; the same where each model has one."""

    def chosen(model: str, back: int) -> ModelVersion | None:
        served = sorted(each.version for each in listed if (each.model, each.state) == (model, READY))
        # Of a model with one version nothing is wished: it judges before and after.
        return ModelVersion(model, str(served[-back])) if len(served) > 1 else None

    def wish(back: int) -> Wish:
        return Wish(chosen(quality_model, back), chosen(brand_model, back))

    return wish(2), wish(1)


def without_golden(folder: ModelFolder, versions: Iterable[ModelVersion]) -> list[str]:
    """Those that nothing can verify: they were published before golden photos were, or by hand."""
    found = []
    for each in versions:
        try:
            golden = folder.manifest(each.model, int(each.version)).golden
        except NotFound:
            golden = None
        if golden is None:
            found.append(str(each))
    return sorted(found)


def _said(report: Report) -> str:
    share = report.changes.any
    return f"{share.count} of {share.of} photos change"


def _judges(release: Release) -> str:
    return f"{release.quality}, {release.brand}"


@asynccontextmanager
async def _patience() -> AsyncIterator[_Progressed]:
    """Ends what makes no progress for `_PATIENCE_S`: operations wait for ever for a server that is gone.

    Yields:
        What to call on progress.

    Raises:
        DemoFailed: It made none.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_PATIENCE_S) as limit:
            yield lambda: limit.reschedule(loop.time() + _PATIENCE_S)
    except TimeoutError:
        raise DemoFailed(f"no progress for {_PATIENCE_S:.0f} s") from None
