"""Peak memory in front of a backlog: the same tiny photo in so many events, some seconds of work."""

import json
import time

from confluent_kafka.cimpl import NewTopic

from benchmarks import machine
from benchmarks.compare import photos
from benchmarks.compare.rig import Failed, Rig

_START_S = 60.0


def backlog(rig: Rig, topic: str, count: int) -> None:
    """Makes an uploads topic of so many events, for all contenders."""
    rig.admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(30)
    uri = f"{rig.folder.as_uri()}/{photos.tiny()}"
    event = json.dumps({"photo_id": "%s", "uri": uri, "uploaded_at": "2026-01-01T00:00:00Z"})
    before, _, after = event.partition("%s")
    for number in range(count):
        photo_id = f"{topic}-{number}"
        while True:
            try:
                rig.producer.produce(topic, f"{before}{photo_id}{after}", photo_id)
            except BufferError:
                rig.producer.poll(0.1)
            else:
                break
    rig.producer.flush()


def peak(rig: Rig, name: str, tag: str, uploads: str, seconds: float) -> float:
    """MB at most after so many seconds of tagging; what is left of the backlog stays.

    Raises:
        Failed: the contender tags nothing.
    """
    with rig.topics(tag, uploads) as topics, rig.started(name, tag, topics) as run:
        deadline = time.monotonic() + _START_S
        while run.count() == 0:
            run.require(0, time.monotonic() < deadline)
            time.sleep(0.1)
        began = run.count()
        time.sleep(seconds)
        run.require(began)
        if run.count() == began:
            raise Failed(f"{tag}: stopped after {began} results")
        return machine.peak_mb(run.process.pid)
