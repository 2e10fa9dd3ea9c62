"""A real Kafka over TLS, with logins and with certificates: what fits is answered, and what does not is said."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from time import monotonic

import pytest
from confluent_kafka import KafkaException

from consumer.errors import DependencyDown
from consumer.kafka import clients
from consumer.kafka.clients import Properties
from consumer.kafka.reasons import REASONS
from consumer.kafka.sender import NewRecord, Sender
from consumer.kafka.topics import create_topics
from consumer.topic_names import TopicNames
from tests.harness_process import ROOT, photo_tagger
from tests.secure_kafka import PASSWORD, STRANGER, SecureKafka, variables

DEPENDENCY = 5
SETTINGS = 3
DEADLINE_S = 60.0
WRONG = "another-word"


def reason(servers: str, properties: Properties, said: str) -> str:
    """What is known of the brokers once that has been said."""
    REASONS._of.clear()
    client, deadline = clients.producer_client(servers, properties), monotonic() + DEADLINE_S
    while said not in str(REASONS):
        assert monotonic() < deadline, f"{properties}: {REASONS}"
        # A client that is asked nothing does not connect.
        with suppress(KafkaException):
            client.list_topics(timeout=0.2)
        client.poll(0)
    return str(REASONS)


#: A listener, what a client brings, and what it is told.
CASES: dict[str, tuple[str, Callable[[SecureKafka], Properties], str]] = {
    "in the clear to TLS": ("tls", lambda _: {}, "perhaps the listener wants TLS"),
    "in the clear to a login": ("login", lambda _: {}, "perhaps the listener wants a login"),
    "in the clear to both": ("secure", lambda _: {}, "perhaps the listener wants TLS"),
    "TLS to a listener in the clear": (
        "plain",
        lambda kafka: kafka.tls(),
        "connecting to a PLAINTEXT broker listener?",
    ),
    "a login where none is asked": ("plain", lambda kafka: kafka.login(), "the listener asks for no login"),
    "a login over TLS where none is asked": (
        "tls",
        lambda kafka: kafka.secure(),
        "the listener asks for no login",
    ),
    "a login in the clear to TLS": ("secure", lambda kafka: kafka.login(), "perhaps the listener wants TLS"),
    "TLS without the login": ("secure", lambda kafka: kafka.tls(), "perhaps the listener wants a login"),
    "another authority": (
        "tls",
        lambda kafka: kafka.tls(**{"ssl.ca.location": str(kafka.certificates.other)}),
        "the certificate is signed by none of ssl.ca.location",
    ),
    "no certificate of the client": (
        "mutual",
        lambda kafka: kafka.tls(),
        "the listener wants a certificate of the client: ssl.certificate.location",
    ),
    "a wrong password": (
        "login",
        lambda kafka: kafka.login(password=WRONG),
        "SASL authentication error: Authentication failed: Invalid username or password",
    ),
    "a wrong password over TLS": ("secure", lambda kafka: kafka.secure("PLAIN", password=WRONG), "Invalid username"),
    "a wrong password for SCRAM": ("secure", lambda kafka: kafka.secure(password=WRONG), "invalid credentials"),
    "an unknown user": ("secure", lambda kafka: kafka.secure(user="nobody"), "invalid credentials"),
    "another mechanism": ("login", lambda kafka: kafka.login("SCRAM-SHA-256"), "supported mechanisms: PLAIN"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_said_and_names_the_listener(case: str, secure_kafka: SecureKafka) -> None:
    listener, properties_of, said = CASES[case]
    address = secure_kafka.addresses[listener]
    known = reason(address, properties_of(secure_kafka), said)
    assert address in known
    assert "\n" not in known
    assert PASSWORD not in known
    assert WRONG not in known


def test_a_host_that_nobody_knows_and_a_certificate_of_another_name_are_said(secure_kafka: SecureKafka) -> None:
    assert "nowhere.invalid:9093" in reason("nowhere.invalid:9093", secure_kafka.secure(), "Failed to resolve")
    other_name = secure_kafka.addresses["tls"].replace("localhost", "127.0.0.1")
    assert other_name in reason(other_name, secure_kafka.tls(), "of another name")


@pytest.mark.parametrize(
    ("listener", "properties_of"),
    [
        ("tls", lambda kafka: kafka.tls()),
        ("login", lambda kafka: kafka.login()),
        ("secure", lambda kafka: kafka.secure("PLAIN")),
        ("secure", lambda kafka: kafka.secure("SCRAM-SHA-512")),
        ("mutual", lambda kafka: kafka.mutual()),
    ],
)
def test_what_fits_is_answered(
    listener: str, properties_of: Callable[[SecureKafka], Properties], secure_kafka: SecureKafka
) -> None:
    client = clients.producer_client(secure_kafka.addresses[listener], properties_of(secure_kafka))
    assert client.list_topics(timeout=DEADLINE_S).brokers


def test_a_user_without_rights_is_told_what_it_lacks(secure_kafka: SecureKafka) -> None:
    servers, login = secure_kafka.addresses["secure"], secure_kafka.secure(user=STRANGER)
    names = TopicNames(*(f"{name}-of-nobody" for name in asdict(TopicNames()).values()))
    lacks = f"kafka: {servers}: topic {names.uploads}: TOPIC_AUTHORIZATION_FAILED: .*; docs/how-to/secure.md lists"
    with pytest.raises(DependencyDown, match=lacks):
        create_topics(servers, names, extra=login)
    create_topics(secure_kafka.addresses["plain"], names)
    with pytest.raises(DependencyDown, match=f"^kafka: {servers}: no topic {names.dead}; .*, or let this user see it$"):
        Sender(servers, login, [names.dead])
    secure_kafka.allow(f"User:{STRANGER}", "topic", names.dead, "Describe")

    def refusal() -> str:
        with pytest.raises(DependencyDown) as down:
            Sender(servers, login, [names.dead]).send([NewRecord(names.dead, b"k", b"v")])
        return down.value.detail

    deadline = monotonic() + DEADLINE_S
    # The broker hears of the rule a little later, and a busy one may not answer in time.
    while "AUTHORIZATION_FAILED" not in (told := refusal()):
        assert monotonic() < deadline, told
    # Whoever may write to no topic is refused an idempotent producer first.
    assert servers in told
    assert "AUTHORIZATION_FAILED: " in told
    assert "; docs/how-to/secure.md lists the permissions" in told


def test_a_command_ends_with_one_line_that_says_it(secure_kafka: SecureKafka, tmp_path: Path) -> None:
    login = secure_kafka.addresses["login"]
    own = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        **variables(login, secure_kafka.login(password=WRONG)),
    }
    told = f"kafka: sasl_plaintext://{login}: SASL authentication error: Authentication failed: Invalid username"
    ended = photo_tagger("send", "file:///a.jpg", env=own, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (DEPENDENCY, "")
    assert ended.stderr == f"photo-tagger: {told} or password (_TRANSPORT)\n"
    ended = photo_tagger("topics", "--wait-s", "0", env=own, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (DEPENDENCY, "")
    assert ended.stderr == f"waiting 0 s for {told} or password\nphoto-tagger: {told} or password\n"
