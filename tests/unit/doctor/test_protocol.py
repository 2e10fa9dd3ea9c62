"""What a broker takes is read from the log of the client, and compared with what the service needs."""

import pytest

from consumer.kafka.inspection.protocol import ProtocolLog, lacks, misses, release_of

CURRENT = {
    "Fetch": range(4, 19),
    "InitProducerId": range(7),
    "Metadata": range(14),
    "ConsumerGroupHeartbeat": range(2),
}


@pytest.mark.parametrize(
    ("fetch", "name"),
    [
        (range(4, 20), "4.1"),
        (range(4, 19), "4.1"),
        (range(4, 18), "4.0"),
        (range(18), "3.9"),
        (range(13), "2.7"),
        (range(3), "before 0.11"),
    ],
)
def test_the_release_is_told_by_what_is_taken(fetch: range, name: str) -> None:
    assert release_of({"Fetch": fetch}) == name


def test_what_a_cluster_lacks_is_named_with_the_release_that_has_it() -> None:
    assert lacks(CURRENT, consumer_protocol=True) == []
    assert misses(CURRENT) == []
    old = {"Fetch": range(4), "Metadata": range(10)}
    assert lacks(old, consumer_protocol=False) == [
        "producers that store no record twice (Kafka 0.11)",
        "headers of records (Kafka 0.11)",
    ]
    assert lacks({**CURRENT, "ConsumerGroupHeartbeat": range(0)}, consumer_protocol=True) == [
        "kafka.group_protocol=consumer (Kafka 4.0)"
    ]
    assert len(misses(old)) == 1
    assert release_of({}) == ""


def test_of_several_brokers_counts_what_all_take() -> None:
    log = ProtocolLog()
    for versions in ("4..18", "0..13", "2..15"):
        log.log(7, "", "APIVERSION", "c", f"[thrd:h:1/1]: h:1/1:   ApiKey Fetch (1) Versions {versions}")
    assert log.takes == {"Fetch": range(4, 14)}
