"""Registers the schemas of events and results with the schema registry."""

from dataclasses import dataclass
from typing import Literal

from consumer.errors import SettingsError
from consumer.kafka.registry import subjects
from consumer.operations.schemas.kinds import schema_of
from consumer.service.construction import registry_of
from consumer.settings import Settings


@dataclass(frozen=True, slots=True)
class Registration:
    """What became of the schema of a kind."""

    kind: str
    subject: str
    number: int
    outcome: Literal["registered", "unchanged"]


def register(settings: Settings) -> list[Registration]:
    """Registers those that are not there yet, one after the other.

    Raises:
        DependencyDown: the registry does not answer, or refuses.
        Refused: one does not fit the schemas before it; those before it in the list are registered.
        SettingsError: there is no registry, or the extra for it is not installed.
    """
    registry = registry_of(settings)
    if registry is None:
        raise SettingsError("it is not set: there is no registry to register with", setting="registry.url")
    names = subjects(settings.kafka.topics)
    return [
        Registration(kind, subject, *registry.register(subject, kind, schema_of(kind)))
        for kind, subject in names.items()
    ]
