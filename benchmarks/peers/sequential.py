"""The loop of confluent-kafka's README: one photo at a time, a commit for every 100."""

from confluent_kafka import Consumer, Producer

from benchmarks.peers.job import CONSUMER, PEER, PRODUCER, SyncJob
from consumer import events
from consumer.events import Source

job = SyncJob()
consumer, producer = Consumer(CONSUMER), Producer(PRODUCER)
consumer.subscribe([PEER["uploads"]])
since_commit = 0
while True:
    message = consumer.poll(0.05)
    if message is not None and message.error() is None:
        tags = job.one(message.value(), Source(message.topic(), message.partition(), message.offset()))
        producer.produce(PEER["tags"], events.encode(tags), tags.photo_id)
        producer.poll(0)
        since_commit += 1
    if since_commit and (since_commit >= 100 or message is None):
        producer.flush()
        consumer.commit(asynchronous=False)
        since_commit = 0
