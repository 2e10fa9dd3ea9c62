"""The end of the path for a replay: that of the service, but for dead letters that are there already."""

from collections.abc import Container

from consumer import events
from consumer.errors import Reason
from consumer.events import Deletion, Photo, Tags
from consumer.kafka.headers import Delivery
from consumer.kafka.publisher import Publisher
from consumer.redis.store import Store, Written
from consumer.resilience import Deferral


class ReplaySink:
    """Tags go where the service's go; `known` are the places of uploads (partition, offset) with a dead letter."""

    def __init__(self, store: Store, publisher: Publisher, known: Container[tuple[int, int]]) -> None:
        self._store = store
        self._publisher = publisher
        self._known = known

    def letters(self, delivery: Delivery) -> bool:
        """Whether the upload has no dead letter yet."""
        return (delivery.origin.partition, delivery.origin.offset) not in self._known

    async def wants(self, event: events.Event) -> bool:  # noqa: ARG002 - as a run's
        """Every event is processed again."""
        return True

    def fetched(self, photo: Photo) -> None:
        """Nothing is kept of a photo."""

    async def write(self, decision: Tags | Deletion) -> Written:
        """As the store's.

        Raises:
            DependencyDown: as the store's.
            PhotoRejected: as the store's.
        """
        return await self._store.write(decision)

    async def newer(self, decision: Tags | Deletion) -> Tags | Deletion | None:
        """As the store's.

        Raises:
            DependencyDown: as the store's.
        """
        return await self._store.newer(decision)

    async def result(self, decision: Tags | Deletion, delivery: Delivery) -> None:
        """As the publisher's.

        Raises:
            DependencyDown: as the publisher's.
            RecordRefused: as the publisher's.
        """
        await self._publisher.result(decision, delivery)

    async def retry(self, delivery: Delivery, deferral: Deferral) -> bool:
        """As the publisher's.

        Raises:
            DependencyDown: as the publisher's.
        """
        return await self._publisher.retry(delivery, deferral)

    async def dead_letter(self, delivery: Delivery, reason: Reason, detail: str, attempt: int) -> None:
        """Publishes a dead letter, unless the upload has one: a second one would say the same of the same record.

        Raises:
            DependencyDown: as the publisher's.
            RecordRefused: as the publisher's.
        """
        if self.letters(delivery):
            await self._publisher.dead_letter(delivery, reason, detail, attempt)
