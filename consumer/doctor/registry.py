"""The schema registry, where there is one: whether it has the schemas that the service and its senders name."""

from typing import Final

from consumer.doctor.findings import Findings, failure, ok, warning
from consumer.events import TAGGED
from consumer.kafka.registry import REGISTER, subjects
from consumer.service.construction import registry_of
from consumer.settings import Settings

_ALIVE: Final = "is it the one in registry.url, and may registry.user read it? `photo-tagger config` shows from where"


def examine(settings: Settings) -> Findings:
    """Asks the registry; blocking.

    Yields:
        The findings, as they come.

    Raises:
        DependencyDown: it does not answer, or no more.
        SettingsError: the extra for it is not installed.
    """
    registry = registry_of(settings)
    if registry is None:
        return
    for kind, subject in subjects(settings.kafka.topics).items():
        newest = registry.newest(subject)
        if newest is not None and newest.describes(kind):
            yield ok("registry", subject, f"schema {newest.number} is {kind}")
            continue
        found = "it has no schema" if newest is None else f"schema {newest.number} is not {kind} of this version"
        # The service waits for that of its results; the others are for senders.
        yield (failure if kind == TAGGED else warning)("registry", subject, found, f"register it: {REGISTER}")


def advice(_: str) -> str:
    """What to do where it does not answer."""
    return _ALIVE
