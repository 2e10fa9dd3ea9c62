"""The whole examination: each part in a thread of its own, so that one that hangs does not keep the others."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Final

from consumer.doctor import host, kafka, redis, registry, triton
from consumer.doctor.findings import Finding, Findings, Part, Until, down, failure
from consumer.doctor.triton import InForce
from consumer.errors import DependencyDown, SettingsError
from consumer.releases import Numbered, in_force
from consumer.service import release_log
from consumer.settings import Settings

_ADVICE: Final[dict[Part, Callable[[str], str]]] = {
    "kafka": kafka.advice,
    "registry": registry.advice,
    "redis": redis.advice,
    "triton": triton.advice,
    "host": str,
}
#: Put behind the findings of a part.
_END: Final = None
_Told = tuple[Part, "Finding | BaseException | None"]


def examine(settings: Settings, wait_s: float, found: Callable[[Finding], object]) -> list[Finding]:
    """Looks at everything at once, within `wait_s`; `found` is called with each finding as it comes.

    Threads that still wait for a server are left behind.

    Raises:
        Exception: a check has a bug.
    """
    until = Until(monotonic() + wait_s)
    release: InForce = Future()
    threading.Thread(target=_read_release, args=(settings, release), daemon=True).start()
    parts: dict[Part, Callable[[], Findings]] = {
        "host": partial(host.examine, settings),
        "kafka": partial(kafka.examine, settings, until),
        "registry": partial(registry.examine, settings),
        "redis": partial(redis.examine, settings, until),
        "triton": partial(triton.examine, settings, until, release),
    }
    told: queue.Queue[_Told] = queue.Queue()
    for part, look in parts.items():
        threading.Thread(target=_examine, args=(part, look, told), name=f"doctor-{part}", daemon=True).start()
    findings, open_parts = list[Finding](), dict.fromkeys(parts)
    while open_parts:
        try:
            part, each = told.get(timeout=max(0.0, until.deadline_s - monotonic()))
        except queue.Empty:
            break
        if each is _END:
            del open_parts[part]
        elif isinstance(each, Finding):
            findings.append(each)
            found(each)
        else:
            raise each
    for part in open_parts:
        silent = down(part, f"not every answer came within {wait_s:g} s", "raise --wait-s, or look why it is so slow")
        findings.append(silent)
        found(silent)
    return findings


def _examine(part: Part, look: Callable[[], Findings], told: "queue.Queue[_Told]") -> None:
    try:
        for finding in look():
            told.put((part, finding))
    except DependencyDown as lost:
        told.put((part, down(part, lost.detail, _ADVICE[part](lost.detail))))
    except SettingsError as wrong:
        told.put((part, failure(part, "settings", str(wrong), "`photo-tagger config` shows where it is set")))
    except BaseException as bug:  # noqa: BLE001 - it is raised again, in the thread that waits
        told.put((part, bug))
    told.put((part, _END))


def _read_release(settings: Settings, release: InForce) -> None:
    """The release in force, for who looks at Triton; Kafka's own examination tells why it cannot be read."""
    newest: Numbered | None = None
    try:
        chain = in_force(release_log.history(settings.kafka))
        newest = chain[-1] if chain else None
    except (DependencyDown, SettingsError):
        pass
    finally:
        # Who waited for it may have given up, which cancels it.
        if release.set_running_or_notify_cancel():
            release.set_result(newest)
