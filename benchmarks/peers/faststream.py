"""FastStream on confluent-kafka, 64 handlers at once; it allows them with ACK_FIRST only: committed before the work."""

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker
from faststream.confluent.annotations import KafkaMessage

from benchmarks.peers.job import PEER, AsyncJob
from consumer import events
from consumer.events import Source

job = AsyncJob()
broker = KafkaBroker(PEER["kafka"], logger=None)
app = FastStream(broker, logger=None, on_startup=[job.open])


async def undecoded(message: KafkaMessage) -> bytes:
    return message.body


@broker.subscriber(
    PEER["uploads"],
    group_id=PEER["group"],
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.ACK_FIRST,
    max_workers=64,
    decoder=undecoded,
)
async def handle(body: bytes, message: KafkaMessage) -> None:
    record = message.raw_message
    tags = await job.one(body, Source(record.topic(), record.partition(), record.offset()))
    await broker.publish(events.encode(tags), PEER["tags"], key=tags.photo_id.encode())
