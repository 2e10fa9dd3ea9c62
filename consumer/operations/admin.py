"""Single actions of the command line: creating topics, sending an event, reading tags."""

from collections.abc import Callable, Sequence
from datetime import datetime
from difflib import get_close_matches
from time import monotonic, sleep
from typing import Final, TypeVar
from uuid import uuid4

from consumer import events
from consumer.contract import NO_LOGO
from consumer.errors import ContractMismatch, DependencyDown, SettingsError
from consumer.events import PhotoDeleted, PhotoUploaded, Tags
from consumer.kafka.headers import cloud_event_headers
from consumer.kafka.sender import NewRecord, Sender
from consumer.kafka.topic_review import Problem
from consumer.kafka.topic_review import review_topics as problems_of_topics
from consumer.kafka.topics import create_topics
from consumer.reader import Page, TagReader, ignore
from consumer.redis.failures import Failures
from consumer.settings import Settings

T = TypeVar("T")

_POLL_S: Final = 0.25
#: A broker that is there has this time to answer, whatever is known of others.
_LEAST_WAIT_S: Final = 3.0
_EVENT_SOURCE: Final = "/photo-tagger/send"


def create_topics_patiently(
    settings: Settings, partitions: int, replication: int, wait_s: float, waits: Callable[[str], object] = str
) -> list[str]:
    """Creates the missing topics, waiting up to `wait_s` for the cluster; returns the names of the new ones.

    `waits` is called with the reason while no broker can be used.

    Raises:
        DependencyDown: the cluster did not answer in time, or refuses a topic.
    """
    kafka, names, deadline = settings.kafka, settings.kafka.topics, monotonic() + max(wait_s, _LEAST_WAIT_S)

    def waiting(reason: str) -> None:
        waits(reason)
        if monotonic() >= deadline:
            raise DependencyDown("kafka", reason)

    while True:
        try:
            return create_topics(
                kafka.bootstrap_servers,
                names,
                partitions=partitions,
                replication=replication,
                extra=kafka.extra,
                waits=waiting,
            )
        except DependencyDown as down:
            if monotonic() >= deadline:
                raise
            waits(down.detail)
            sleep(_POLL_S)


def review_topics(settings: Settings) -> list[Problem]:
    """The settings of the topics under which records vanish or are refused.

    Raises:
        DependencyDown: they cannot be read.
    """
    return problems_of_topics(settings.kafka.bootstrap_servers, settings.kafka.topics, settings.kafka.extra)


def send_event(settings: Settings, event: PhotoUploaded | PhotoDeleted) -> str:
    """Publishes one event and returns where it was stored, `topic[partition]@offset`.

    Raises:
        DependencyDown: the brokers refused it, or did not acknowledge it in time.
        SettingsError: its id or URI is no text.
    """
    try:
        value = events.encode(event)
    except TypeError:
        raise SettingsError(f"the id or the URI of photo {event.photo_id!r} is not UTF-8") from None
    kafka = settings.kafka
    kind = events.DELETED if isinstance(event, PhotoDeleted) else events.UPLOADED
    headers = cloud_event_headers(kind, str(uuid4()), _EVENT_SOURCE)
    record = NewRecord(kafka.uploads_topic, event.photo_id.encode(), value, headers)
    (stored,) = Sender(kafka.bootstrap_servers, kafka.extra, [kafka.uploads_topic]).send([record])
    return f"{stored.topic}[{stored.partition}]@{stored.offset}"


def read_tags(
    settings: Settings, photo_ids: Sequence[str], wait_s: float, unreadable: Callable[[str], None] = ignore
) -> dict[str, Tags]:
    """The tags of these photos, waiting up to `wait_s` until all have some; `unreadable` as of `TagReader`.

    Raises:
        DependencyDown: Redis does not answer.
    """
    deadline = monotonic() + wait_s
    while True:
        found = _with_reader(settings, unreadable, lambda reader: reader.get_many(photo_ids))
        if len(found) == len(set(photo_ids)) or monotonic() >= deadline:
            return found
        sleep(_POLL_S)


def find_photos(
    settings: Settings,
    brands: Sequence[str],
    min_quality: float = 0.0,
    *,
    level: int | None = None,
    since: datetime | None = None,
    limit: int = 100,
    cursor: str | None = None,
    unreadable: Callable[[str], None] = ignore,
) -> Page:
    """The best photos of any of the brands; without one, the best of the good photos. As `TagReader.find`.

    Raises:
        DependencyDown: Redis does not answer.
        SettingsError: it is no cursor.
    """
    try:
        return _with_reader(
            settings,
            unreadable,
            lambda reader: reader.find(
                brands or None, min_quality, level=level, since=since, limit=limit, cursor=cursor
            ),
        )
    except ValueError as error:
        raise SettingsError(str(error), setting="--cursor") from None


def count_brands(settings: Settings, unreadable: Callable[[str], None] = ignore) -> dict[str, int]:
    """The brands that photos in Redis show, with their numbers of photos; as `TagReader.brands`.

    Raises:
        DependencyDown: Redis does not answer.
    """
    return _with_reader(settings, unreadable, TagReader.brands)


async def brands_like(settings: Settings, brand: str) -> list[str] | None:
    """The brands that the served model knows and whose names are most like this one; None where Triton does not say.

    A brand that it knows is alone in the list.
    """
    from consumer.service import construction  # noqa: PLC0415 - reading tags must not load what calls Triton

    triton = settings.triton
    try:
        async with construction.triton_client(settings) as client:
            contract = await client.read_contract(triton.quality_model, triton.brand_model)
    except (DependencyDown, ContractMismatch):
        return None
    if brand in contract.brand_labels:
        return [brand]
    names = {name.lower(): name for name in contract.brand_labels if name != NO_LOGO}
    return [names[found] for found in get_close_matches(brand.lower(), names, n=3, cutoff=0.5)]


def _with_reader(settings: Settings, unreadable: Callable[[str], None], read: Callable[[TagReader], T]) -> T:
    with (
        Failures(settings.redis.url).mapped(),
        TagReader(**settings.redis.model_dump(), unreadable=unreadable) as reader,
    ):
        return read(reader)
