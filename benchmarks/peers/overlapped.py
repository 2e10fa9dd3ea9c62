"""The batch loop with two batches at once, so that one is decoded while the other is judged; commits in order."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.peers.batches import BATCH, BatchJob
from benchmarks.peers.job import CONSUMER, PEER, PRODUCER

job = BatchJob(Producer(PRODUCER))
consumer = Consumer(CONSUMER)
consumer.subscribe([PEER["uploads"]])
batches = ThreadPoolExecutor(2)
running = deque()
while True:
    messages = [message for message in consumer.consume(BATCH, 0.02) if message.error() is None]
    if messages:
        running.append(batches.submit(job.tag, messages))
    while running and (len(running) >= 2 or running[0].done()):
        ends = {}
        for message in running.popleft().result():
            place = message.topic(), message.partition()
            ends[place] = max(ends.get(place, 0), message.offset() + 1)
        offsets = [TopicPartition(*place, end) for place, end in ends.items()]
        consumer.commit(offsets=offsets, asynchronous=True)
