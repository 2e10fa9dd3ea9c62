"""What a person is told whose client does not fit the listener of a real Kafka: TLS, logins, both, or neither."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import orjson
import pytest
from confluent_kafka import KafkaException

from consumer.embedded.kafka import Kafka, free_addresses
from consumer.embedded.servers import Servers
from consumer.kafka import clients
from consumer.kafka.reasons import REASONS
from tests.harness_process import ROOT, photo_tagger

DEPENDENCY = 5
DEADLINE_S = 60.0
LOGIN = {"sasl.mechanism": "PLAIN", "sasl.username": "bob", "sasl.password": "right"}
_JAAS = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_bob="right";'


@dataclass(frozen=True)
class Listeners:
    """The addresses of one Kafka, by protocol, and the certificate of localhost, which is its own authority."""

    plain: str
    tls: str
    login: str
    certificate: Path


@pytest.fixture(scope="module")
def listeners(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key, store = (folder / name for name in ("c.pem", "k.pem", "both.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-out", certificate, "-keyout", key],
        check=True,
        capture_output=True,
    )  # fmt: skip
    store.write_bytes(key.read_bytes() + certificate.read_bytes())
    plain, tls, login, controller = free_addresses(4)
    settings = {
        "listeners": f"PLAINTEXT://{plain},SSL://{tls},LOGIN://{login},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{plain},SSL://{tls},LOGIN://{login}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,LOGIN:SASL_PLAINTEXT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": store,
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.login.plain.sasl.jaas.config": _JAAS,
    }
    kafka = Kafka(servers._guardian, "listeners", addresses=(plain, controller), settings=settings)
    kafka.start()
    yield Listeners(plain, tls, login, certificate)
    kafka.kill()


def reason(listener: str, properties: clients.Properties, said: str) -> str:
    """What is known of the brokers once that has been said."""
    REASONS._of.clear()
    client, deadline = clients.producer_client(listener, properties), monotonic() + DEADLINE_S
    while said not in str(REASONS):
        assert monotonic() < deadline, f"{properties}: {REASONS}"
        # A client that is asked nothing does not connect.
        with suppress(KafkaException):
            client.list_topics(timeout=0.2)
        client.poll(0)
    return str(REASONS)


def test_what_is_wrong_between_a_client_and_a_listener_is_said_and_what_fits_is_answered(listeners: Listeners) -> None:
    trusting = {"security.protocol": "ssl", "ssl.ca.location": str(listeners.certificate)}
    login = {"security.protocol": "sasl_plaintext", **LOGIN}
    cases: list[tuple[str, clients.Properties, str]] = [
        (listeners.tls, {}, "perhaps the listener wants TLS"),
        (listeners.login, {}, "perhaps the listener wants a login"),
        (listeners.plain, trusting, "connecting to a PLAINTEXT broker listener?"),
        (listeners.plain, login, "the listener asks for no login"),
        (listeners.tls, trusting, "the certificate is signed by none of ssl.ca.location, of another name"),
        (listeners.login, {**login, "sasl.password": "wrong"}, "Invalid username or password"),
        (listeners.login, {**login, "sasl.mechanism": "SCRAM-SHA-256"}, "broker's supported mechanisms: PLAIN"),
    ]
    for listener, properties, said in cases:
        assert listener in (known := reason(listener, properties, said))
        assert "right" not in known
    for listener, properties in ((listeners.login, login), (listeners.tls.replace("127.0.0.1", "localhost"), trusting)):
        assert clients.producer_client(listener, properties).list_topics(timeout=DEADLINE_S).brokers


def test_a_command_ends_with_one_line_that_says_it(listeners: Listeners, tmp_path: Path) -> None:
    variables = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "TAGGER_KAFKA__BOOTSTRAP_SERVERS": listeners.login,
        "TAGGER_KAFKA__EXTRA": orjson.dumps(
            {"security.protocol": "sasl_plaintext", **LOGIN, "sasl.password": "x"}
        ).decode(),
    }
    told = (
        f"kafka: sasl_plaintext://{listeners.login}: SASL authentication error: Authentication failed: Invalid username"
    )
    ended = photo_tagger("send", "file:///a.jpg", env=variables, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (DEPENDENCY, "")
    assert ended.stderr == f"photo-tagger: {told} or password (_TRANSPORT)\n"
    ended = photo_tagger("topics", "--wait-s", "0", env=variables, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (DEPENDENCY, "")
    assert ended.stderr == f"waiting 0 s for {told} or password\nphoto-tagger: {told} or password\n"
