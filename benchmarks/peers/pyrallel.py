"""pyrallel-consumer, its asyncio engine: 64 photos at once, in order for each key."""

import asyncio
import threading

from confluent_kafka import Producer
from pyrallel_consumer.config import KafkaConfig
from pyrallel_consumer.consumer import PyrallelConsumer
from pyrallel_consumer.dto import ExecutionMode, OrderingMode, WorkItem

from benchmarks.peers.job import PEER, PRODUCER, AsyncJob
from consumer import events
from consumer.events import Source

job = AsyncJob()
producer = Producer(PRODUCER)


def poll() -> None:
    while True:
        producer.poll(0.1)


async def worker(item: WorkItem) -> None:
    tags = await job.one(item.payload, Source(item.tp.topic, item.tp.partition, item.offset))
    loop = asyncio.get_running_loop()
    delivered = loop.create_future()
    producer.produce(
        PEER["tags"],
        events.encode(tags),
        tags.photo_id,
        on_delivery=lambda error, _message: loop.call_soon_threadsafe(delivered.set_result, error),
    )
    await delivered


async def main() -> None:
    await job.open()
    threading.Thread(target=poll, daemon=True).start()
    config = KafkaConfig(
        BOOTSTRAP_SERVERS=[PEER["kafka"]],
        CONSUMER_GROUP=PEER["group"],
        AUTO_OFFSET_RESET="earliest",
        dlq_enabled=False,
    )
    config.parallel_consumer.ordering_mode = OrderingMode.KEY_HASH
    config.parallel_consumer.execution.mode = ExecutionMode.ASYNC
    config.parallel_consumer.execution.max_in_flight = 64
    consumer = PyrallelConsumer(config=config, worker=worker, topic=PEER["uploads"])
    await consumer.start()
    await consumer.wait_closed()


asyncio.run(main())
