"""`photo-tagger web`: the pages over HTTP."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from aiohttp import web

from consumer.errors import NotFound, SettingsError, TaggerError
from consumer.settings import Settings
from consumer.telemetry import Log
from consumer.web import pages
from consumer.webserver import grid, letters, photo, runs, state
from consumer.webserver.asking import Asker, in_words
from consumer.webserver.feed import Feed
from consumer.webserver.guards import Guards, Handler, check_address
from consumer.webserver.pictures import Pictures
from consumer.webserver.records import Records
from consumer.webserver.site import SITE, TEMPLATES, Site

#: A form names 100 letters of 30 bytes.
_FORM_BYTES: Final = 64 * 1024
_SHUTDOWN_S: Final = 2.0
_ASSETS_KEPT: Final = "private, max-age=300"


@asynccontextmanager
async def serve(settings: Settings, log: Log) -> AsyncIterator[str]:
    """Serves the pages while the context lasts.

    Yields:
        Their address.

    Raises:
        SettingsError: the address may not be bound, or cannot be.
    """
    check_address(settings)
    async with AsyncExitStack() as stack:
        asker, records = Asker(), Records(settings.kafka)
        stack.push_async_callback(asker.aclose)
        site = Site(
            settings=settings,
            log=log,
            guards=Guards(settings.web.names),
            asker=asker,
            feed=stack.enter_context(Feed(settings.kafka, settings.web.photos)),
            records=records,
            pictures=await stack.enter_async_context(Pictures(settings, records)),
        )
        runner = web.AppRunner(_app(site), access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        host, port = settings.web.host, settings.web.port
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise SettingsError(f"web.host and web.port: cannot listen on {host}:{port}: {error}") from None
        bound, number = runner.addresses[0][:2]
        yield f"http://{f'[{bound}]' if ':' in bound else bound}:{number}/"


async def serve_until_stopped(settings: Settings, log: Log, tell: Callable[[str], object]) -> None:
    """Serves until SIGINT or SIGTERM; `tell` gets the address.

    Raises:
        SettingsError: as `serve`.
    """
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with serve(settings, log) as address:
        log.info("pages.served", address=address, changes=settings.web.allow_changes)
        tell(address)
        await stopped.wait()


def _app(site: Site) -> web.Application:
    app = web.Application(middlewares=[site.guards.checked, _explained], client_max_size=_FORM_BYTES)
    app[SITE] = site
    own = (TEMPLATES / "site.css").read_text(encoding="utf-8")
    style = "".join((pages.asset("base.css"), pages.asset("cards.css"), own))
    script = (TEMPLATES / "site.js").read_text(encoding="utf-8")
    app.add_routes(
        [
            web.get("/", grid.grid),
            web.get("/photo", photo.photo),
            web.get("/picture", photo.picture),
            web.get("/dead-letters", letters.letters),
            web.post("/dead-letters", letters.retry),
            web.get("/runs", runs.runs),
            web.get("/runs/{run_id}", runs.run),
            web.get("/runs/{run_id}/changes", runs.changes),
            web.get("/service", state.state),
            web.get("/site.css", _asset(style, "text/css")),
            web.get("/site.js", _asset(script, "text/javascript")),
            web.get("/live", _live),
        ]
    )
    return app


async def _live(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _asset(text: str, content_type: str) -> Handler:
    async def get(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=content_type, headers={"Cache-Control": _ASSETS_KEPT})

    return get


@web.middleware
async def _explained(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what a page could not do into a page that says so."""
    site = request.app[SITE]
    try:
        return await handler(request)
    except web.HTTPException as error:
        title = "No such page" if error.status == web.HTTPNotFound.status_code else error.reason
        return site.problem_page(error.status, title, "The address or the request is not one of these pages.")
    except NotFound as missing:
        return site.problem_page(404, "Not there", str(missing))
    except TaggerError as failure:
        return site.problem_page(503, "No answer", in_words(failure))
    except Exception:
        with suppress(Exception):
            site.log.exception("page.failed", path=request.path)
        return site.problem_page(500, "A fault", "This page failed for a reason of its own; the server's log has it.")
