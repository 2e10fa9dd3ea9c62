"""Bytewax, two worker threads, a map for each photo; without recovery partitions it keeps no offsets."""

import threading

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kafka
from bytewax.dataflow import Dataflow

from benchmarks.peers.job import PEER, SyncJob
from consumer import events
from consumer.events import Source

_own = threading.local()


def work(message: KafkaSourceMessage) -> KafkaSinkMessage:
    if not hasattr(_own, "job"):
        _own.job = SyncJob()
    tags = _own.job.one(message.value, Source(message.topic, message.partition, message.offset))
    return KafkaSinkMessage(tags.photo_id.encode(), events.encode(tags))


flow = Dataflow("tagger")
uploads = kafka.input(
    "uploads",
    flow,
    brokers=[PEER["kafka"]],
    topics=[PEER["uploads"]],
    batch_size=32,
    add_config={"fetch.wait.max.ms": "50"},
)
kafka.output("tags", op.map("tag", uploads.oks, work), brokers=[PEER["kafka"]], topic=PEER["tags"])
