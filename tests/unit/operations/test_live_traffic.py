from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from consumer.operations import live_traffic
from consumer.operations.live_traffic import LiveTraffic
from consumer.settings import Settings

TOPIC = "photo-uploads"


class Cluster:
    """What Kafka says, and the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.looks = 1000.0, 0
        self.positions = {(TOPIC, 0): 5, (TOPIC, 1): 7}
        self.ends = {(TOPIC, 0): 5, (TOPIC, 1): 7}
        monkeypatch.setattr(live_traffic, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(live_traffic, "TopicReader", lambda *_: self._reader())
        monkeypatch.setattr(live_traffic.run_log, "positions", lambda *_: dict(self.positions))

    @contextmanager
    def _reader(self) -> Iterator["Cluster"]:
        self.looks += 1
        yield self

    def ranges(self) -> dict[tuple[str, int], range]:
        return {key: range(end) for key, end in self.ends.items()}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


def seen(cluster: Cluster, live: LiveTraffic, *, after_s: float) -> tuple[bool, int]:
    """What is known after so many seconds."""
    cluster.now_s += after_s
    live.look()
    return live.present.is_set(), live.lag


def test_uploads_that_come_and_a_backlog_that_is_worked_off_are_live_traffic_for_a_while(cluster: Cluster) -> None:
    live = LiveTraffic(Settings())
    assert [seen(cluster, live, after_s=1) for _ in range(3)] == [(True, 0), (False, 0), (False, 0)]
    cluster.ends[TOPIC, 0] += 3
    assert seen(cluster, live, after_s=1) == (True, 3)
    assert seen(cluster, live, after_s=9) == (True, 3)
    cluster.positions[TOPIC, 0] += 2
    assert seen(cluster, live, after_s=3) == (True, 1)
    assert seen(cluster, live, after_s=9) == (True, 1)
    # One photo that waits for long is no traffic.
    assert seen(cluster, live, after_s=2) == (False, 1)


def test_where_no_live_service_ever_ran_there_is_none(cluster: Cluster) -> None:
    cluster.positions = {}
    live = LiveTraffic(Settings())
    for _ in range(3):
        assert seen(cluster, live, after_s=1) == (False, 0)
        cluster.ends[TOPIC, 1] += 10


def test_kafka_is_asked_once_a_second_at_most(cluster: Cluster) -> None:
    live = LiveTraffic(Settings())
    for _ in range(21):
        seen(cluster, live, after_s=0.2)
    assert cluster.looks == 5
