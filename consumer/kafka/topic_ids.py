"""Which topics the cluster has now: a topic that was deleted and made anew keeps its name, and has another id.

Asked with a client of its own, in the background: the consumer's thread must go on polling while an answer takes time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

if TYPE_CHECKING:
    from concurrent.futures import Future

_TIMEOUT_S: Final = 10.0
#: What brokers before topic ids (2.8) answer.
_NO_ID: Final = "A" * 22


@dataclass(frozen=True, slots=True)
class Answer:
    """The ids of the topics that were asked for and exist, when that was asked (monotonic), and if brokers answered."""

    ids: Mapping[str, str]
    asked_s: float
    answered: bool


class TopicIds:
    """Asks for the ids of topics, one question at a time; for one thread, which is never held up.

    `connect` makes the client, when something is asked for the first time.
    """

    def __init__(self, connect: Callable[[], AdminClient]) -> None:
        self._connect = connect
        self._client: AdminClient | None = None
        self._asked_s = 0.0
        self._futures: Mapping[str, Future[Any]] = {}

    @property
    def asking(self) -> bool:
        """Whether there is a question whose answer was not taken."""
        return bool(self._futures)

    def ask(self, topics: Iterable[str]) -> None:
        """Asks for the ids of these topics, unless there is a question already."""
        names = sorted(set(topics))
        if self.asking or not names:
            return
        self._client = self._client or self._connect()
        self._asked_s = monotonic()
        self._futures = self._client.describe_topics(TopicCollection(names), request_timeout=_TIMEOUT_S)

    def take(self) -> Answer | None:
        """The answer to the question; None while there is none."""
        if not self._futures or not all(future.done() for future in self._futures.values()):
            return None
        futures, self._futures = self._futures, {}
        ids: dict[str, str] = {}
        answered = False
        for topic, future in futures.items():
            error = future.exception()
            if error is None:
                ids[topic] = str(future.result().topic_id)
            # Errors of librdkafka itself are negative: no broker said anything.
            answered = answered or error is None or (isinstance(error, KafkaException) and error.args[0].code() > 0)
        return Answer({topic: each for topic, each in ids.items() if each != _NO_ID}, self._asked_s, answered)
