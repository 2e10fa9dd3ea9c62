"""Whether photos come to the live service, by what Kafka says: a job beside it makes room for them."""

import threading
from math import inf
from time import monotonic
from typing import Final

from consumer.kafka.scan import TopicReader
from consumer.operations import run_log
from consumer.operations.lag import behind
from consumer.settings import Settings

_APART_S: Final = 0.9
#: For so long after a live photo the next one is expected.
_EXPECTED_S: Final = 10.0


class LiveTraffic:
    """The traffic of the live group of consumers. Blocking; for one thread at a time.

    Attributes:
        present: Set while uploads come, or the live group works them off, and some seconds longer; and until the second
            look, which says so.
        lag: Records of the upload topic that the live group has not committed; 0 where it never ran.
    """

    def __init__(self, settings: Settings) -> None:
        self.present = threading.Event()
        self.present.set()
        self.lag = 0
        self._kafka = settings.kafka
        self._seen: object = None
        self._looked_s = self._moved_s = -inf

    def look(self) -> None:
        """Looks where the live group and the upload topic are, unless it did so within a second.

        Raises:
            DependencyDown: Kafka does not answer.
        """
        kafka, now_s = self._kafka, monotonic()
        if now_s < self._looked_s + _APART_S:
            return
        positions = run_log.positions(kafka, kafka.group_id)
        with TopicReader(kafka.bootstrap_servers, kafka.extra, [kafka.uploads_topic]) as reader:
            held = reader.ranges()
        ends = {key: each.stop for key, each in held.items()}
        self.lag = sum(len(each) for key, each in behind(held, positions).items() if key in positions)
        known = self._seen is not None
        if known and self._seen != (positions, ends):
            self._moved_s = now_s
        self._seen, self._looked_s = (positions, ends), now_s
        if positions and (not known or now_s < self._moved_s + _EXPECTED_S):
            self.present.set()
        else:
            self.present.clear()
