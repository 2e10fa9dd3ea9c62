"""Single records at known places: the event that a photo's tags come from, the result that has all probabilities.

The pictures of a page ask for sixty at once: what is asked while others are read is read together after them.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection
from functools import partial
from math import inf

from consumer import events
from consumer.errors import PhotoRejected, TaggerError
from consumer.events import PhotoUploaded, Record, Source, Tags, source_of
from consumer.kafka.scan import TopicReader
from consumer.settings.sections import KafkaSettings
from consumer.webserver.asking import DEADLINE_S, NotYet, in_thread


class Records:
    """Reads records of this installation's topics. For one event loop."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._topics = {kafka.uploads_topic, kafka.retry_topic, kafka.dead_topic, kafka.tags_topic}
        self._asked: dict[Source, asyncio.Future[Record | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def at(self, place: Source) -> Record | None:
        """The record at a place; None where there is none (any more), or in a topic of others.

        Raises:
            DependencyDown: Kafka does not answer.
            NotYet: it takes long.
        """
        if place.topic not in self._topics:
            return None
        asked = self._asked.get(place)
        if asked is None:
            asked = self._asked[place] = asyncio.get_running_loop().create_future()
            asked.add_done_callback(_look_at_failure)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await asyncio.shield(asked)
        except TimeoutError:
            raise NotYet(f"Kafka gave no record in {DEADLINE_S:g} s") from None

    async def upload(self, photo_id: str, place: Source) -> PhotoUploaded | None:
        """The upload event of a photo at a place; None where there is none (any more). Raises as `at`."""
        return upload_in(await self.at(place), photo_id)

    async def probabilities(self, tags: Tags, place: Source) -> dict[str, float]:
        """All probabilities of tags, the highest first; none where their record is gone. Raises as `at`."""
        record = await self.at(place)
        try:
            found = events.decode_tags((record and record.value) or b"")
        except ValueError:
            return {}
        if (found.photo_id, found.version) != (tags.photo_id, tags.version):
            return {}
        return dict(sorted(found.probabilities.items(), key=lambda pair: -pair[1]))

    async def _read(self) -> None:
        while self._asked:
            # Those that are asked in the same turn of the loop come with it.
            await asyncio.sleep(0)
            asked, self._asked = self._asked, {}
            try:
                found = await in_thread(partial(_read_all, self._kafka, asked))
            except TaggerError as failure:
                for future in asked.values():
                    future.set_exception(failure)
                continue
            for place, future in asked.items():
                future.set_result(found.get(place))


def _read_all(kafka: KafkaSettings, places: Collection[Source]) -> dict[Source, Record]:
    offsets = defaultdict[tuple[str, int], list[int]](list)
    for place in places:
        offsets[place.topic, place.partition].append(place.offset)
    topics = {topic for topic, _ in offsets}
    with TopicReader(kafka.bootstrap_servers, kafka.extra, topics) as reader:
        return {
            source_of(record): record
            for partition, wanted in offsets.items()
            for record in reader.records_at(partition, wanted)
        }


def upload_in(record: Record | None, photo_id: str) -> PhotoUploaded | None:
    """The upload of this photo in a record; None where it is anything else."""
    if record is None:
        return None
    try:
        event = events.parse(record, max_ahead_s=inf)
    except PhotoRejected:
        return None
    return event if isinstance(event, PhotoUploaded) and event.photo_id == photo_id else None


def _look_at_failure(asked: "asyncio.Future[Record | None]") -> None:
    if not asked.cancelled():
        asked.exception()
