from dataclasses import dataclass

import pytest

from consumer.kafka.source import Unfinished
from consumer.service.heads import Heads
from consumer.telemetry import Metrics
from tests.fakes import RecordingLog


@dataclass
class Source:
    oldest: Unfinished | None = None


def head(age_s: float, topic: str = "photo-uploads", partition: int = 3) -> Unfinished:
    return Unfinished(topic, partition, 42, age_s, "redis")


class Bench:
    def __init__(self, *ages_s: float | None, stuck_after_s: float = 600.0) -> None:
        self.log, self.metrics = RecordingLog(), Metrics()
        topics = ("photo-uploads", "photo-uploads.retry")
        self.sources = [
            Source(None if age_s is None else head(age_s, topic)) for topic, age_s in zip(topics, ages_s, strict=False)
        ]
        self.heads = Heads(self.sources, stuck_after_s, self.log, self.metrics)

    def series(self) -> dict[tuple[str, str], float]:
        samples = next(iter(self.metrics.oldest_seconds.collect())).samples
        return {(sample.labels["topic"], sample.labels["partition"]): sample.value for sample in samples}


@pytest.mark.parametrize(
    ("ages_s", "oldest"),
    [
        ((), None),
        ((None, None), None),
        ((5.0, 9.0), "photo-uploads.retry"),
        ((5.0, -3600.0), "photo-uploads"),
        ((None, -3600.0), "photo-uploads.retry"),
    ],
)
def test_the_oldest_of_all_topics_is_named_and_what_waits_for_its_time_is_not_old(
    ages_s: tuple[float | None, ...], oldest: str | None
) -> None:
    found = Bench(*ages_s).heads.oldest
    assert (None if found is None else found.topic) == oldest
    assert found is None or found.age_s >= 0


@pytest.mark.parametrize(("age_s", "stuck"), [(599.9, False), (600.0, True), (1e9, True), (-1e9, False)])
def test_a_record_is_stuck_from_the_limit_on_and_the_complaint_says_where_it_is_and_what_it_waits_for(
    age_s: float, *, stuck: bool
) -> None:
    complaint = Bench(age_s).heads.complaint
    assert complaint == (
        f"stuck: photo-uploads[3] offset 42 is unfinished for {age_s:.0f} s and waits for redis" if stuck else None
    )


def test_the_metrics_name_the_present_head_of_each_topic_alone() -> None:
    bench = Bench(5.0, 7.0)
    bench.heads.look()
    assert bench.series() == {("photo-uploads", "3"): 5.0, ("photo-uploads.retry", "3"): 7.0}
    bench.sources[0].oldest, bench.sources[1].oldest = head(2.0, partition=1), None
    bench.heads.look()
    assert bench.series() == {("photo-uploads", "1"): 2.0}
    labels = {"topic": "photo-uploads", "partition": "1"}
    assert bench.metrics.registry.get_sample_value("tagger_oldest_unfinished_offset", labels) == 42


@pytest.mark.parametrize(
    ("age_s", "stuck_after_s", "logged"), [(59.9, 600.0, 0), (60.0, 600.0, 1), (3.0, 2.0, 1), (1.0, 2.0, 0)]
)
def test_an_old_head_is_logged_and_not_with_every_look(age_s: float, stuck_after_s: float, logged: int) -> None:
    bench = Bench(age_s, stuck_after_s=stuck_after_s)
    for _ in range(5):
        bench.heads.look()
    assert len(bench.log.named("record.waiting")) == logged
    place = {"topic": "photo-uploads", "partition": 3, "offset": 42, "waits_for": "redis", "age_s": age_s}
    assert all(line == place for line in bench.log.named("record.waiting"))
