"""Messages of librdkafka, and the records in them."""

from confluent_kafka import Consumer, Message

from consumer.events import Record


def coordinates(message: Message) -> tuple[str, int, int]:
    """Topic, partition and offset; only a message that was not produced yet has None there."""
    return str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)


def record_of(message: Message, epoch: int = 0) -> Record:
    """The record in a message without an error; `epoch` numbers the assignment that delivered it."""
    topic, partition, offset = coordinates(message)
    return Record(
        topic=topic,
        partition=partition,
        offset=offset,
        key=message.key(),
        value=message.value(),
        headers=tuple(message.headers() or ()),  # type: ignore[arg-type]  # values are bytes or None as read
        timestamp_ms=message.timestamp()[1],
        epoch=epoch,
    )


def next_messages(consumer: Consumer, wait_s: float, limit: int) -> list[Message]:
    """Up to `limit` messages as soon as there is one, none after `wait_s`; `consume` alone would wait for all."""
    first = consumer.poll(wait_s)
    if first is None:
        return []
    return [first, *(consumer.consume(limit - 1, 0) if limit > 1 else ())]
