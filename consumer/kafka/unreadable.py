"""Records that the client cannot read: a batch that is larger than it may be once it is decompressed.

The limits of a topic are of compressed batches, so that a sender may write one of a few kilobytes that librdkafka
refuses to open, and goes on to fetch for ever. Its offsets are given up one by one: the batch does not say how many
they are before it is opened.
"""

from typing import Final

from confluent_kafka import KafkaError

from consumer.events import Record
from consumer.kafka.offsets import Partition

#: Errors at one offset before it is given up: what came to harm on its way is right the next time.
_TRIES: Final = 3
_CODE: Final = KafkaError._BAD_COMPRESSION  # noqa: SLF001 - librdkafka's local errors have no public name


class Unreadable:
    """Counts the errors at the next offsets of partitions. `turn` is that of the owner thread.

    Errors that were taken in one turn with the one that gave an offset up are older than that.
    """

    def __init__(self) -> None:
        self.turn = 0
        self._errors: dict[Partition, tuple[int, int]] = {}
        self._given_up: dict[Partition, int] = {}

    def gives_up(self, partition: Partition, offset: int, error: KafkaError) -> bool:
        """Whether the record at the next offset of a partition can never be read."""
        if error.code() != _CODE or self._given_up.get(partition) == self.turn:
            return False
        at, count = self._errors.get(partition, (offset, 0))
        count = count + 1 if at == offset else 1
        self._errors[partition] = offset, count
        if count < _TRIES:
            return False
        self._given_up[partition] = self.turn
        return True


def unreadable_record(partition: Partition, offset: int, epoch: int, error: str) -> Record:
    """A record of which only the coordinates are known, and why."""
    topic, number = partition
    return Record(topic, number, offset, None, None, epoch=epoch, unreadable=f"the record cannot be read: {error}")
