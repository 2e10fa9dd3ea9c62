"""What the consumer's errors say about the brokers: that they are away, or refuse this client for good."""

from collections.abc import Callable
from time import monotonic
from typing import Final

from confluent_kafka import KafkaError

from consumer.errors import SourceFailed
from consumer.kafka import clients
from consumer.kafka.reasons import REASONS
from consumer.telemetry import Log, Metrics

_PERMANENT: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError._INVALID_ARG,  # noqa: SLF001 - librdkafka's local errors have no public name
        # How a fatal error (a fenced static member) reaches a consumer: its own `fatal()` is false.
        KafkaError._FATAL,  # noqa: SLF001 - as above
    }
)


class Brokers:
    """Whether the brokers answer, for one source. `failed` is called when they never will."""

    def __init__(self, failed: Callable[[SourceFailed], None], log: Log, metrics: Metrics) -> None:
        self._failed = failed
        self._log = log
        self._metrics = metrics
        self._down_since_s: float | None = None

    @property
    def complaint(self) -> str | None:
        """That no broker answers, and why; None while one does."""
        return f"kafka: {REASONS}".strip(": ") if self.down else None

    @property
    def down(self) -> bool:
        """Whether no broker has answered since all were lost."""
        return self._down_since_s is not None

    def on_error(self, error: KafkaError) -> None:
        """An error of the consumer; most of them mend themselves."""
        if error.fatal() or error.code() in _PERMANENT:
            self._failed(SourceFailed(clients.explain(error)))
        elif error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - as above
            self._log.debug("kafka.errored", detail=clients.explain(error))
        elif not self.down:
            self._down_since_s = monotonic()
            self._metrics.dependency_up.labels("kafka").set(0)
            self._log.warning("dependency.lost", dependency="kafka", detail=clients.explain(error))

    def answered(self, asked_s: float) -> None:
        """A broker answered what was asked then.

        Records that arrive prove nothing, since they may be older than the outage; nor does an answer to a question
        from before it.
        """
        if self._down_since_s is not None and asked_s > self._down_since_s:
            self._down_since_s = None
            self._metrics.dependency_up.labels("kafka").set(1)
            self._log.info("dependency.recovered", dependency="kafka")
