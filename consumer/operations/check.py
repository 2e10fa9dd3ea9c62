"""The outcome of one photo and its reason: fetched and decoded as in the service, without Kafka or Redis."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Final, Literal, TypeVar

from consumer.contract import Geometry
from consumer.errors import DependencyDown, PhotoRejected, Reason, Retryable, SettingsError
from consumer.events import PhotoUploaded
from consumer.fetch.fetcher import Fetcher
from consumer.imaging.preparer import Explanation, explain
from consumer.operations.places import Place, place_of
from consumer.service import construction
from consumer.settings import Settings, variable_of

T = TypeVar("T")

#: As training publishes it: without a margin.
DEFAULT_GEOMETRY: Final = Geometry(224, 224)
_TRITON_S: Final = 2.0
#: Long ago, so that a 404 is final at once.
_UPLOADED: Final = datetime.fromtimestamp(0, UTC)
#: The setting behind a reason, where the checks of the decode do not name it.
_SETTINGS: Final[dict[str, str]] = {
    "too_many_bytes": "fetch.max_bytes",
    "too_many_redirects": "fetch.max_redirects",
    "fetch_timeout": "fetch.total_timeout_s",
    "decode_timeout": "prepare.timeout_s",
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """The assumed geometry of each model, by its name, and where they come from."""

    models: Mapping[str, Geometry]
    said_by: str


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one photo.

    `outcome` is `accepted`, or the reason of the dead letter; the service retries a `transient` failure first.
    `setting` is the deciding one, as `name=value`, where there is one.
    """

    target: str
    outcome: Literal["accepted"] | Reason
    detail: str
    transient: bool
    setting: str | None
    place: Place
    bytes: int | None
    max_bytes: int
    fetch_ms: float | None
    sizes: Sizes
    photo: Explanation | None


async def check(settings: Settings, target: str, geometry: Geometry | None = None) -> Report:
    """Fetches and decodes one photo: a URI as in an event, or the path of a file.

    Any path may be read, since the operator names it and not an event. `geometry` is that of both models; without it,
    they are Triton's, or the default where Triton does not answer within 2 s.

    Raises:
        SettingsError: the file cannot be read.
    """
    place, sizes = await asyncio.gather(place_of(target, settings.fetch), _sizes(settings, geometry))
    started = perf_counter()
    body, photo, failure = b"", None, None
    try:
        body = await _bytes_of(target, place, settings)
        fetch_ms = (perf_counter() - started) * 1000
        limits = construction.prepare_limits(settings)
        wanted = sizes.models.values()
        photo = await _in_time(lambda: explain(body, wanted, limits), settings.prepare.timeout_s)
    except (PhotoRejected, Retryable) as error:
        failure = error
    outcome: Literal["accepted"] | Reason = "accepted"
    if failure is not None:
        outcome = failure.reason
    elif photo is not None and photo.outcome != "pixels":
        outcome = photo.outcome
    return Report(
        target=place.shown,
        outcome=outcome,
        detail=failure.detail if failure is not None else photo.detail if photo is not None else "",
        transient=isinstance(failure, Retryable),
        setting=_setting(settings, outcome, place, photo),
        place=place,
        bytes=len(body) if body else None,
        max_bytes=settings.fetch.max_bytes,
        fetch_ms=fetch_ms if body else None,
        sizes=sizes,
        photo=photo,
    )


async def _bytes_of(target: str, place: Place, settings: Settings) -> bytes:
    limits = construction.fetch_limits(settings)
    if place.kind == "path":
        return await asyncio.to_thread(_read, Path(target), limits.max_bytes)
    async with Fetcher(limits) as fetcher:
        return (await fetcher.fetch(PhotoUploaded("check", target, _UPLOADED))).body


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise PhotoRejected("too_many_bytes", f"{size} bytes, {max_bytes} are allowed")
        body = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    if not body:
        raise PhotoRejected("empty_body", "the file has no bytes")
    return body


async def _sizes(settings: Settings, geometry: Geometry | None) -> Sizes:
    triton = settings.triton
    names = (triton.quality_model, triton.brand_model)
    if geometry is not None:
        return Sizes(dict.fromkeys(names, geometry), "the command line")
    try:
        async with asyncio.timeout(_TRITON_S), construction.triton_client(settings) as client:
            served = await client.read_contract(*names)
    except (DependencyDown, TimeoutError):
        silent = f"default, for Triton at {triton.url} does not answer"
        return Sizes(dict.fromkeys(names, DEFAULT_GEOMETRY), silent)
    return Sizes(served.geometries, f"Triton at {triton.url}")


async def _in_time(work: Callable[[], T], limit_s: float) -> T:
    """The result of `work` in a daemon thread, which does not keep the process alive if it hangs.

    Raises:
        PhotoRejected: `decode_timeout`.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T) -> None:
        if not done.cancelled():
            done.set_result(result)

    def run() -> None:
        loop.call_soon_threadsafe(finish, work())

    threading.Thread(target=run, daemon=True).start()
    try:
        return await asyncio.wait_for(done, limit_s)
    except TimeoutError:
        raise PhotoRejected("decode_timeout", f"not decoded within {limit_s:g} s") from None


def _setting(settings: Settings, outcome: str, place: Place, photo: Explanation | None) -> str | None:
    """The setting that decided, with its value."""
    name = _SETTINGS.get(outcome)
    if outcome in {"url_not_allowed", "address_not_allowed"}:
        return place.allowed_by
    if photo is not None:
        failed = next((check.setting for check in photo.checks if not check.holds), None)
        name = name or (failed and f"prepare.{failed}")
    if name is None:
        return None
    section, _, key = name.partition(".")
    return f"{variable_of(name)}={getattr(getattr(settings, section), key)}"
