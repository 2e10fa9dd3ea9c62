"""What a run would change: the report on its answers, and the photos that it shows."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from consumer.errors import PhotoRejected, Retryable, TaggerError
from consumer.events import PhotoUploaded
from consumer.fetch.fetcher import Fetcher
from consumer.operations import run_log
from consumer.operations.run_log import Answers
from consumer.operations.run_release import limits
from consumer.releases import Release
from consumer.runs import comparison
from consumer.runs.definition import Run
from consumer.runs.report import Change, Judges, Report, RunHeader
from consumer.runs.summary import report_of
from consumer.service import construction
from consumer.settings import Settings

_AT_ONCE: Final = 8
#: So that a photo that is missing is not waited for.
_LONG_AGO: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Diff:
    """The report of a run, and for each photo that it shows its picture, or why there is none."""

    run: Run
    report: Report
    pictures: dict[str, bytes | str]


async def diff(settings: Settings, run_id: str, draw: Callable[[bytes], bytes | None] = lambda _: None) -> Diff:
    """Compares all answers of a run so far, and fetches the photos that change most.

    `draw` makes a small picture of the bytes of a photo, which are dropped then; None where it cannot be shown.

    Raises:
        NotFound: there is no such run.
        DependencyDown: Kafka does not answer.
    """
    run = await asyncio.to_thread(run_log.read, settings.kafka, run_id)
    answers = Answers(settings.kafka, run)
    folded = await asyncio.to_thread(comparison.fold, answers, run.at)
    report = report_of(header_of(run, answers.span.seconds), folded, limits(settings))
    largest = report.largest
    shown = (*largest.quality_up, *largest.quality_down, *largest.brands_gained, *largest.brands_lost)
    return Diff(run, report, await _pictures(settings, shown, draw))


def header_of(run: Run, seconds: float | None) -> RunHeader:
    """What the report says of the run."""
    return RunHeader(
        run_id=run.run_id,
        candidate=_judges(None, run.candidate),
        in_force=_judges(run.base_number, run.base),
        photos=photos_of(run),
        started_at=run.at,
        by=run.by,
        seconds=seconds,
    )


def photos_of(run: Run) -> str:
    """Which photos a run is over, for a person."""
    form = "%Y-%m-%d %H:%M:%S"
    times = (f"from {run.since:{form}}" if run.since else "", f"to {run.until:{form}}" if run.until else "")
    count = "followed" if run.follows else f"{run.total} records"
    return ", ".join(filter(None, (run.topic, count, *times, str(run.selection))))


def _judges(number: int | None, release: Release) -> Judges:
    return Judges(number, release.quality, release.brand, release.decision)


async def _pictures(
    settings: Settings, shown: Iterable[Change], draw: Callable[[bytes], bytes | None]
) -> dict[str, bytes | str]:
    places = asyncio.Semaphore(_AT_ONCE)
    async with Fetcher(construction.fetch_limits(settings)) as fetcher:

        async def picture(change: Change) -> bytes | str:
            if change.uri is None:
                return "its URI is not known"
            async with places:
                body = await _body(fetcher, change.photo_id, change.uri)
                if isinstance(body, str):
                    return body
                drawn = await asyncio.to_thread(draw, body)
                return "it cannot be shown" if drawn is None else drawn

        asked = {change.photo_id: change for change in shown}
        found = await asyncio.gather(*map(picture, asked.values()))
    return dict(zip(asked, found, strict=True))


async def _body(fetcher: Fetcher, photo_id: str, uri: str) -> bytes | str:
    """The bytes of a photo, or why there are none."""
    try:
        return (await fetcher.fetch(PhotoUploaded(photo_id, uri, _LONG_AGO))).body
    except (PhotoRejected, Retryable) as refused:
        return f"{refused.reason}: {refused.detail}"
    except TaggerError as error:
        return str(error)
