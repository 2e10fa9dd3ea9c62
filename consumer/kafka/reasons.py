"""Why brokers cannot be used: librdkafka's errors say only that none answers, and its log has the reason of each.

A client hands its lines over while it is polled. All clients of a process have the same brokers and properties.
"""

import re
from time import monotonic
from typing import Final

from confluent_kafka import KafkaError

#: A broker that cannot be reached is tried again within 10 s, and a connection given up after 30 s.
_KEPT_S: Final = 60.0
#: Most brokers that one message names.
_NAMED: Final = 3
#: `[thrd:ssl://h:9093/1]: ssl://h:9093/1: SSL handshake failed: ... (after 5ms in state SSL_HANDSHAKE)`.
_LINE: Final = re.compile(
    r"\[thrd:.*?\]: (?:GroupCoordinator: )?(?P<broker>.+?:\d+)(?:/(?P<id>bootstrap|\d+))?: (?P<what>.+?)"
    r"(?: \(after (?P<ms>\d+)ms in state (?P<state>\w+).*)?"
)
#: The errors of librdkafka that do not say what is wrong with the brokers.
BLIND: Final = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001 - librdkafka's local errors have no public name
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - as above
        KafkaError._TIMED_OUT,  # noqa: SLF001 - as above
        KafkaError._TIMED_OUT_QUEUE,  # noqa: SLF001 - as above
        KafkaError._MSG_TIMED_OUT,  # noqa: SLF001 - as above
    }
)
#: What brokers answer to a user that may not do something.
FORBIDDEN: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
#: The facilities of lines about what keeps a client from any broker, and how long they are true after they were logged:
#: the provider of SASL's tokens, and an address with a protocol that is not `security.protocol`, which is logged once.
_BEFORE_ANY: Final = {"OIDC": 0.0, "BROKER": float("inf")}
_HUNG_UP: Final = "Disconnected"
#: A listener that wants a login hangs up at once; one whose broker stops, or that was idle, later.
_AT_ONCE_MS: Final = 1_000
#: What else to say of a reason that has this text.
_ADVICE: Final = {
    "in current SASL state": "the listener asks for no login: security.protocol plaintext or ssl",
    "wrong version number": "the listener does not speak TLS: security.protocol plaintext or sasl_plaintext",
    "certificate verify failed": "the certificate is signed by none of ssl.ca.location, of another name, or expired",
    "alert handshake failure": "no TLS version or cipher in common, or the listener wants a certificate of the client",
    "alert bad certificate": "the listener wants a certificate of the client: ssl.certificate.location",
    "alert certificate required": "the listener wants a certificate of the client: ssl.certificate.location",
    "Invalid response size": "what answers is no Kafka, or wants TLS: security.protocol ssl or sasl_ssl",
}


class Reasons:
    """What librdkafka said last of each broker, for a minute. The logger of clients; for any thread.

    Attributes:
        servers: Where the last client was told to begin.
    """

    def __init__(self) -> None:
        self.servers = ""
        self._of: dict[str, tuple[float, str]] = {}

    def log(self, _level: int, _form: str, facility: str, _client: str, text: str) -> None:
        """Takes a line of the log, as the client hands it over."""
        found = _LINE.fullmatch(text)
        if facility == "FAIL" and found is not None:
            broker = found["broker"]
            self._of[broker] = (monotonic(), f"{broker}: {_reason(found)}")
        elif facility in _BEFORE_ANY:
            self._of[facility] = (monotonic() + _BEFORE_ANY[facility], text.partition("]: ")[2])

    def __str__(self) -> str:
        """The reasons of up to three brokers, the last one first; empty where there is none."""
        since_s = monotonic() - _KEPT_S
        known = sorted((entry for entry in list(self._of.values()) if entry[0] > since_s), reverse=True)
        return "; ".join(reason for _, reason in known[:_NAMED])


#: Those of this process.
REASONS: Final = Reasons()


def _reason(found: re.Match[str]) -> str:
    """What a line says, and what that may mean."""
    what, state = found["what"], found["state"]
    advice = [text for sign, text in _ADVICE.items() if sign in what]
    if what.startswith(_HUNG_UP) and state == "APIVERSION_QUERY":
        advice.append("perhaps the listener wants TLS: security.protocol ssl or sasl_ssl")
    elif what.startswith(_HUNG_UP) and state == "UP" and int(found["ms"]) < _AT_ONCE_MS:
        advice.append("perhaps the listener wants a login: security.protocol sasl_plaintext or sasl_ssl")
    elif state == "CONNECT" and found["id"] not in {None, "bootstrap"}:
        advice.append(f"broker {found['id']} has this address from advertised.listeners")
    return "; ".join([what.strip(" :"), *advice])
