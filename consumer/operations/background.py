"""A job that takes what others leave of the cores."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from consumer.settings import Settings

_LEAST_PRIORITY: Final = 19
#: Where others keep all cores busy, a thread that yields gets a few thousandths of one.
_PATIENCE: Final = 30
#: Linux shares cores among sessions before it looks at their threads (`sched_autogroup_enabled`).
_SESSION: Final = Path("/proc/self/autogroup")
_THREADS: Final = Path("/proc/self/task")


def in_background(settings: Settings) -> Settings:
    """Leaves this process the cores that nobody else uses, if a replay yields: its threads, and those they start.

    Returns:
        The settings for that: a decode may wait long for a core, which is not its photo's fault.
    """
    if not settings.service.replay_yields:
        return settings
    try:
        for thread in _THREADS.iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # not Linux, or a sandbox that forbids it
        os.nice(_LEAST_PRIORITY)
    if os.getsid(0) == os.getpid():  # else the session is a person's, or that of the service as well
        with suppress(OSError):
            _SESSION.write_text(str(_LEAST_PRIORITY))
    patient = settings.prepare.model_copy(update={"timeout_s": _PATIENCE * settings.prepare.timeout_s})
    return settings.model_copy(update={"prepare": patient})
