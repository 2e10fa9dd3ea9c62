"""The batch loop that an engineer writes in an afternoon: 32 events, all their tags, one commit."""

from confluent_kafka import Consumer, Producer

from benchmarks.peers.batches import BATCH, BatchJob
from benchmarks.peers.job import CONSUMER, PEER, PRODUCER

job = BatchJob(Producer(PRODUCER))
consumer = Consumer(CONSUMER)
consumer.subscribe([PEER["uploads"]])
while True:
    messages = [message for message in consumer.consume(BATCH, 0.05) if message.error() is None]
    if messages:
        job.tag(messages)
        consumer.commit(asynchronous=False)
