"""One batch of the plain batch loops: fetch and decode in four threads, infer in requests of 8, one pipeline."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from confluent_kafka import Message, Producer

from benchmarks.peers.job import MODELS, PEER, SCRIPT, SyncJob, parse, script_call
from consumer import events
from consumer.events import Source

BATCH = 32
_REQUEST = 8


class BatchJob(SyncJob):
    """Tags whole batches; two may run at once, each in a thread."""

    def __init__(self, producer: Producer) -> None:
        super().__init__()
        self._producer = producer
        self._pool = ThreadPoolExecutor(4)
        self.redis.script_load(SCRIPT)

    def tag(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Returns the messages when their tags are in Redis and in the result topic."""
        parsed = [parse(message.value()) for message in messages]
        photos = list(self._pool.map(lambda event: self.pixels(self.fetch(event.uri)), parsed))
        starts = range(0, len(photos), _REQUEST)
        asked = [
            (*model, np.stack(seen[start : start + _REQUEST]))
            for model, seen in zip(MODELS, zip(*photos, strict=True), strict=True)
            for start in starts
        ]
        answers = list(self._pool.map(lambda each: self.ask(*each), asked))
        quality, brands = (np.concatenate(part) for part in (answers[: len(starts)], answers[len(starts) :]))
        pipeline = self.redis.pipeline(transaction=False)
        for message, event, *scores in zip(messages, parsed, quality, brands, strict=True):
            tags = self.tags(event, *scores, Source(message.topic(), message.partition(), message.offset()))
            keys, arguments = script_call(tags)
            pipeline.evalsha(self.script.sha, len(keys), *keys, *arguments)
            self._producer.produce(PEER["tags"], events.encode(tags), tags.photo_id)
        pipeline.execute()
        self._producer.flush()
        return messages
