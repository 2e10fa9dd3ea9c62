"""An optional schema registry that speaks Confluent's protocol: where the schemas of the topics have their numbers.

It is asked when a service starts and by commands, never for a record. Its client is that of the extra `registry`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Literal, NamedTuple, TypeVar

from consumer.errors import DependencyDown, Refused, SettingsError
from consumer.escape import printable
from consumer.events import DELETED, TAGGED, UPLOADED, PhotoDeleted, PhotoUploaded, Tags
from consumer.topic_names import TopicNames

T = TypeVar("T")

_MISSING: Final = "it needs the extra registry: pip install 'photo-tagger[registry]', or requirements/registry.txt"
REGISTER: Final = "`photo-tagger schemas --register`"
_TIMEOUT_S: Final = 5.0
_MOST_WORDS: Final = 300
#: Of Confluent's protocol: no such subject, version or schema.
_NOT_THERE: Final = frozenset({40401, 40402, 40403})
_NOT_ALLOWED: Final = frozenset({401, 403})
_CLASSES: Final = {TAGGED: Tags, UPLOADED: PhotoUploaded, DELETED: PhotoDeleted}
#: What a subject that is new promises: who reads results by an earlier schema, and who sends events by one, works on.
_LEVELS: Final = {TAGGED: "FORWARD", UPLOADED: "BACKWARD", DELETED: "BACKWARD"}
#: The dialect that registries compare; the schemas use nothing that it lacks.
_DIALECT: Final = "http://json-schema.org/draft-07/schema#"


class Registered(NamedTuple):
    """The number of a schema in the registry."""

    number: int
    outcome: Literal["registered", "unchanged"]


class Newest(NamedTuple):
    """The newest schema of a subject, as far as it is read."""

    number: int
    title: str
    required: frozenset[str]

    def describes(self, kind: str) -> bool:
        """Whether it is a schema of this kind that asks for no field which this version does not know."""
        return self.title == kind and self.required <= {each.name for each in fields(_CLASSES[kind])}


def subjects(topics: TopicNames) -> dict[str, str]:
    """The subject of each kind of event: its topic's, and that of topic and kind where a topic has several."""
    sent = {kind: f"{topics.uploads}-{kind}" for kind in (UPLOADED, DELETED)}
    return {TAGGED: f"{topics.tags}-value", **sent}


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry at `url`, or at several with commas between them, and how this user is known there."""

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""

    def newest(self, subject: str) -> Newest | None:
        """The newest schema of a subject; None where it has none.

        Raises:
            DependencyDown: the registry does not answer, or refuses.
        """
        with self._client() as client:
            found = _unless_missing(client.get_latest_version, subject)
            if found is None:
                return None
            schema = json.loads(found.schema.schema_str) if found.schema.schema_type == "JSON" else {}
            return Newest(int(found.schema_id), schema.get("title", ""), frozenset(schema.get("required", ())))

    def frame(self, subject: str, kind: str) -> bytes:
        """What stands before a value and names its schema, the newest of its subject: a zero and the number.

        Raises:
            DependencyDown: the registry does not answer, refuses, or has no schema there that the values follow.
        """
        newest = self.newest(subject)
        if newest is None:
            raise self._down(f"{subject} has no schema; register it: {REGISTER}")
        if not newest.describes(kind):
            other = f"the newest schema of {subject}, {newest.number}, is not {kind} of this version"
            raise self._down(f"{other}; register that: {REGISTER}")
        try:
            return b"\0" + newest.number.to_bytes(4)
        except OverflowError:
            raise self._down(f"{subject}: the number {newest.number} does not fit in four bytes") from None

    def register(self, subject: str, kind: str, schema: Mapping[str, object]) -> Registered:
        """Registers a schema, unless it is there; a subject that is new gets the level of compatibility of its kind.

        Raises:
            DependencyDown: the registry does not answer, or refuses.
            Refused: the schema does not fit those before it, by the level of its subject.
        """
        with self._client() as client:
            wanted = _package().Schema(json.dumps({**schema, "$schema": _DIALECT}), "JSON")
            found = _unless_missing(client.lookup_schema, subject, wanted)
            if found is not None:
                return Registered(found.schema_id, "unchanged")
            is_new = _unless_missing(client.get_latest_version, subject) is None
            if not is_new and not client.test_compatibility(subject, wanted):
                change = f"{kind} of this version does not fit the schemas before it by the level of its subject"
                raise Refused(
                    f"{self._named(subject)}: {change}, {client.get_compatibility(subject)}; nothing was changed"
                )
            number = client.register_schema(subject, wanted)
            if is_new:
                client.set_compatibility(subject, _LEVELS[kind])
            return Registered(number, "registered")

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """A client, whose failures are mapped.

        Raises:
            DependencyDown: as `frame`.
            SettingsError: the extra is not installed, or `ca` cannot be read.

        Yields:
            The client.
        """
        package, transport = _package(), import_module("httpx2" if find_spec("httpx2") else "httpx")
        properties: dict[str, object] = {"url": self.url, "timeout": _TIMEOUT_S, "max.retries": 0}
        if self.user:
            properties["basic.auth.user.info"] = f"{self.user}:{self.password}"
        if self.ca:
            properties["ssl.ca.location"] = self.ca
        try:
            client = package.SchemaRegistryClient(properties)
        except OSError as error:
            raise SettingsError(f"cannot read {self.ca}: {error}", setting="registry.ca") from None
        try:
            with client:
                yield client
        except package.SchemaRegistryError as error:
            status = error.http_status_code
            advice = "; look at registry.user and what it may do" if status in _NOT_ALLOWED else ""
            raise self._down(f"status {status}: {error.error_message}{advice}") from None
        except transport.HTTPError as error:
            raise self._down(str(error) or type(error).__name__) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._down(f"no answer of a schema registry: {error}") from None

    def _named(self, subject: str = "") -> str:
        return " ".join(filter(None, ("schema registry", self.url, subject)))

    def _down(self, detail: str) -> DependencyDown:
        return DependencyDown("kafka", printable(f"{self._named()}: {detail}")[:_MOST_WORDS], part="schema registry")


def _package() -> Any:  # noqa: ANN401 - a module
    """The client's package.

    Raises:
        SettingsError: the extra is not installed.
    """
    try:
        return import_module("confluent_kafka.schema_registry")
    except ModuleNotFoundError:
        raise SettingsError(_MISSING, setting="registry.url") from None


def _unless_missing(ask: Callable[..., T], *about: object) -> T | None:
    """The answer; None where the registry says that it has no such thing."""
    try:
        return ask(*about)
    except _package().SchemaRegistryError as error:
        if error.error_code not in _NOT_THERE:
            raise
        return None
