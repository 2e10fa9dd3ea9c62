"""Which requests a broker takes, in which versions: what it tells each client that connects. Pure, but for the log."""

import re
from collections.abc import Mapping
from typing import Final

from consumer.kafka.reasons import REASONS

#: The versions of each request that a broker takes, by the request's name.
Takes = Mapping[str, range]

#: `  ApiKey Fetch (1) Versions 4..18`.
_LINE: Final = re.compile(r"ApiKey (\S+) \(\d+\) Versions (\d+)\.\.(\d+)")
#: A release of Apache Kafka, and the version of Fetch that came with it; brokers of other makers take the same.
_SINCE: Final = ((18, "4.1"), (17, "3.9"), (16, "3.7"), (15, "3.5"), (13, "3.1"), (12, "2.7"), (11, "2.3"), (4, "0.11"))
#: From 4.0 on, brokers take no Fetch below this.
_OLDEST_OF_4: Final = 4
#: A request, the version that is needed, what for, and since which release brokers have it.
_NEEDED: Final = (
    ("InitProducerId", 0, "producers that store no record twice", "0.11"),
    ("Fetch", 4, "headers of records", "0.11"),
)
_KIP_848: Final = ("ConsumerGroupHeartbeat", 0, "kafka.group_protocol=consumer", "4.0")
#: Without these the service works, and sees less.
_WISHED: Final = (("Metadata", 10, "telling a topic that was deleted and made anew from the old one", "2.8"),)


class ProtocolLog:
    """Keeps what a broker takes, and hands the other lines on; the logger of a client with `debug=feature`."""

    def __init__(self) -> None:
        self.takes: dict[str, range] = {}

    def log(self, level: int, form: str, facility: str, client: str, text: str, /) -> None:
        """Takes a line."""
        found = _LINE.search(text) if facility == "APIVERSION" else None
        if found is None:
            REASONS.log(level, form, facility, client, text)
        else:
            # Of several brokers, what all of them take.
            now = range(int(found[2]), int(found[3]) + 1)
            known = self.takes.get(found[1], now)
            self.takes[found[1]] = range(max(known.start, now.start), min(known.stop, now.stop))


def release_of(takes: Takes) -> str:
    """The newest release of Kafka that these requests are known of; empty where nothing is known."""
    fetch = takes.get("Fetch")
    if not fetch:
        return ""
    name = next((name for version, name in _SINCE if fetch.stop > version), "before 0.11")
    return "4.0" if name == "3.9" and fetch.start >= _OLDEST_OF_4 else name


def lacks(takes: Takes, *, consumer_protocol: bool) -> list[str]:
    """What the service needs that a broker does not take."""
    return _missing(takes, (*_NEEDED, *((_KIP_848,) if consumer_protocol else ())))


def misses(takes: Takes) -> list[str]:
    """What the service would use, and works without."""
    return _missing(takes, _WISHED)


def _missing(takes: Takes, wanted: tuple[tuple[str, int, str, str], ...]) -> list[str]:
    return [f"{what} (Kafka {since})" for name, version, what, since in wanted if version not in takes.get(name, ())]
