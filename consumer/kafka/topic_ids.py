"""Which topics the cluster has now: a topic that was deleted and made anew keeps its name, and has another id.

Asked with a client of its own, in the background: the consumer's thread must go on polling while an answer takes time.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import wait
from dataclasses import dataclass
from time import monotonic
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

_TIMEOUT_S: Final = 5.0
#: What brokers before topic ids (2.8) answer.
_NO_ID: Final = "A" * 22


@dataclass(frozen=True, slots=True)
class Answer:
    """The ids of the topics that were asked for and exist, when that was asked (monotonic), and if brokers answered.

    `missing` are those that do not exist, as the brokers say.
    """

    ids: Mapping[str, str]
    asked_s: float
    answered: bool
    missing: frozenset[str] = frozenset()


class TopicIds:
    """Asks for the ids of topics, one question at a time; for one thread, which is never held up.

    `connect` makes the client, when something is asked for the first time.
    """

    def __init__(self, connect: Callable[[], AdminClient]) -> None:
        self._connect = connect
        self._client: AdminClient | None = None
        self._connected = True
        self._asking = False
        self._answer: Answer | None = None

    @property
    def asking(self) -> bool:
        """Whether there is a question whose answer was not taken."""
        return self._asking

    def ask(self, topics: Iterable[str]) -> None:
        """Asks for the ids of these topics, unless there is a question already."""
        names = sorted(set(topics))
        if self._asking or not names:
            return
        try:
            self._client = self._client or self._connect()
            question = (self._client, names, monotonic())
            threading.Thread(target=self._find_out, args=question, name="kafka-topic-ids", daemon=True).start()
        except (KafkaException, RuntimeError):  # this host has no thread or descriptor left, maybe for a moment
            return
        self._asking = True

    def take(self) -> Answer | None:
        """The answer to the question; None while there is none."""
        answer, self._answer = self._answer, None
        if answer is not None:
            self._asking = False
            self._connected = answer.answered
        return answer

    def _find_out(self, client: AdminClient, names: list[str], asked_s: float) -> None:
        answer = Answer({}, asked_s, answered=False)
        try:
            answer = self._told(client, names, asked_s)
        finally:
            # Whatever failed: a question without any answer would be the last one.
            self._answer = answer

    def _told(self, client: AdminClient, names: list[str], asked_s: float) -> Answer:
        # Takes what the client logs, which it would keep for ever.
        client.poll(0)
        ids: dict[str, str] = {}
        reconnected = not self._connected and _reconnected(client)
        answered, missing = reconnected, frozenset[str]()
        if self._connected or reconnected:
            futures = client.describe_topics(TopicCollection(names), request_timeout=_TIMEOUT_S)
            done, _ = wait(futures.values(), timeout=2 * _TIMEOUT_S)
            errors = {topic: future.exception() for topic, future in futures.items() if future in done}
            ids = {topic: str(futures[topic].result().topic_id) for topic, error in errors.items() if error is None}
            missing = frozenset(topic for topic, error in errors.items() if _is_unknown(error))
            answered = reconnected or any(error is None or _is_from_a_broker(error) for error in errors.values())
        ids = {topic: each for topic, each in ids.items() if each != _NO_ID}
        return Answer(ids, asked_s, answered, missing)


def _reconnected(client: AdminClient) -> bool:
    """Connects again, which a request for topics does not do by itself, and whether that succeeded."""
    try:
        client.list_topics(timeout=_TIMEOUT_S)
    except KafkaException as error:
        return _is_from_a_broker(error)
    return True


def _is_from_a_broker(error: BaseException) -> bool:
    """Whether a broker said this, and not the client, whose own errors are negative."""
    return _code(error) > 0


def _is_unknown(error: BaseException | None) -> bool:
    """Whether a broker said that there is no such topic."""
    return error is not None and _code(error) == KafkaError.UNKNOWN_TOPIC_OR_PART


def _code(error: BaseException) -> int:
    """The code of an error of Kafka; 0 of any other."""
    cause = error.args[0] if isinstance(error, KafkaException) else None
    return cause.code() if isinstance(cause, KafkaError) else 0
