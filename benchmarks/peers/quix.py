"""Quix Streams: a streaming data frame, one photo at a time, checkpoints every second."""

from quixstreams import Application, message_context

from benchmarks.peers.job import PEER, SyncJob
from consumer import events
from consumer.events import Source

job = SyncJob()
app = Application(
    broker_address=PEER["kafka"],
    consumer_group=PEER["group"],
    auto_offset_reset="earliest",
    commit_interval=1.0,
    consumer_poll_timeout=0.05,
    auto_create_topics=False,
    loglevel="WARNING",
    producer_extra_config={"linger.ms": 5, "compression.type": "lz4"},
)
uploads = app.topic(PEER["uploads"], value_deserializer="bytes")
results = app.topic(PEER["tags"], value_serializer="bytes", key_serializer="bytes")


def work(value: bytes, *_: object) -> bytes:
    place = message_context()
    return events.encode(job.one(value, Source(place.topic, place.partition, place.offset)))


app.dataframe(uploads).apply(work, metadata=True).to_topic(results)
app.run()
