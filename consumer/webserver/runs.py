"""The pages of runs: which there are, how far one is, and what its candidate changes."""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiohttp import web

from consumer.operations import run_diff, run_log
from consumer.operations.run_diff import photos_of
from consumer.runs.definition import WORKED_ON, Run, is_run_id
from consumer.settings import Settings
from consumer.web import diff, thumbnails
from consumer.webserver.asking import NotYet
from consumer.webserver.guards import POLICY
from consumer.webserver.site import SITE, part

#: Comparing reads every answer and fetches the photos that change most.
_DIFF_KEPT_S: Final = 60.0
_AGAIN_S: Final = "3"


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far a run is: offsets that are done, photos that were judged, and that could not be."""

    run: Run
    done: int
    judged: int
    not_judged: int


async def runs(request: web.Request) -> web.Response:
    """All runs: those that are worked on, then the others, each the newest first; ended replays apart."""
    site = request.app[SITE]
    found = await part(site.asker.ask("runs", partial(run_log.read_all, site.settings.kafka), keep_s=2.0))
    # Replays may be many, as of every night, and nothing more becomes of an ended one.
    listed, ended = list[Run](), list[Run]()
    for run in reversed((found.value or {}).values()):
        (ended if run.is_ended_replay else listed).append(run)
    listed.sort(key=lambda run: run.state not in WORKED_ON)
    status = 200 if found.value is not None else 503
    return site.page("runs.html", page="runs", status=status, runs=listed, ended=ended, why=found.why, over=photos_of)


async def run(request: web.Request) -> web.Response:
    """One run."""
    site, run_id = request.app[SITE], request.match_info["run_id"]
    if not is_run_id(run_id):
        return site.problem_page(404, "No such run", "This is not the name of a run.")
    found = await part(site.asker.ask(("run", run_id), partial(_progress, site.settings, run_id), keep_s=2.0))
    status = 200 if found.value else 503
    return site.page(
        "run.html", page="runs", status=status, run_id=run_id, found=found.value, why=found.why, over=photos_of
    )


def _progress(settings: Settings, run_id: str) -> _Progress:
    """How far a run is.

    Raises:
        NotFound: there is none of this id.
        DependencyDown: Kafka does not answer.
    """
    found = run_log.read(settings.kafka, run_id)
    judged, not_judged = (0, 0) if found.kind == "replay" else run_log.count(settings.kafka, found)
    return _Progress(found, run_log.done(settings.kafka, found), judged, not_judged)


async def changes(request: web.Request) -> web.Response:
    """What the candidate of a run changes: the page that `runs diff` writes."""
    site, run_id = request.app[SITE], request.match_info["run_id"]
    if not is_run_id(run_id):
        return site.problem_page(404, "No such run", "This is not the name of a run.")
    try:
        page = await site.asker.ask(("diff", run_id), partial(_diff, site.settings, run_id), keep_s=_DIFF_KEPT_S)
    except NotYet:
        what = "The answers are being compared; this page loads itself again."
        return site.page(
            "problem.html", page="runs", status=202, headers={"Refresh": _AGAIN_S}, title="Comparing", what=what
        )
    # It has its style in itself, and its own policy, which is no wider than this one.
    return web.Response(
        text=page, content_type="text/html", charset="utf-8", headers={"Content-Security-Policy": _POLICY}
    )


#: The policy of the page, under which nobody may frame it either.
_POLICY: Final = f"{diff.policy()}; {POLICY.rpartition('; ')[2]}"


def _diff(settings: Settings, run_id: str) -> str:
    """The page on a run.

    Raises:
        NotFound: there is none of this id.
        DependencyDown: Kafka does not answer.
    """
    found = asyncio.run(run_diff.diff(settings, run_id, thumbnails.jpeg))
    return diff.render(found.report, found.pictures)
