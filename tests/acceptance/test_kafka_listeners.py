"""What a person is told whose client does not fit the listener of a real Kafka: TLS, logins, both, or neither."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from consumer.embedded.kafka import Kafka, free_addresses
from consumer.embedded.servers import Servers
from tests.harness_process import ROOT

DEPENDENCY = 5
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


def sending(listener: str, properties: dict[str, str]) -> "subprocess.Popen[str]":
    """A command that needs Kafka, under way."""
    variables = {"TAGGER_KAFKA__BOOTSTRAP_SERVERS": listener, "TAGGER_KAFKA__EXTRA": orjson.dumps(properties).decode()}
    return subprocess.Popen(
        [sys.executable, "-m", "consumer.cli", "send", "file:///a.jpg"],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_client_that_does_not_fit_the_listener_is_told_in_a_line_what_is_wrong(listeners: Listeners) -> None:
    trusting = {"security.protocol": "ssl", "ssl.ca.location": str(listeners.certificate)}
    login = {"security.protocol": "sasl_plaintext", **LOGIN}
    cases = [
        (listeners.tls, {}, "perhaps the listener wants TLS"),
        (listeners.login, {}, "perhaps the listener wants a login"),
        (listeners.plain, trusting, "connecting to a PLAINTEXT broker listener?"),
        (listeners.plain, login, "the listener asks for no login"),
        (listeners.tls, trusting, "the certificate is of another name than this one"),
        (listeners.login, {**login, "sasl.password": "wrong"}, "Invalid username or password"),
        (listeners.login, {**login, "sasl.mechanism": "SCRAM-SHA-256"}, "broker's supported mechanisms: PLAIN"),
        # What fits is answered: there are no topics.
        (listeners.login, login, "no topic photo-uploads; create it"),
        (listeners.tls.replace("127.0.0.1", "localhost"), trusting, "no topic photo-uploads; create it"),
    ]
    # At once: each waits for an answer for three seconds.
    for command, (listener, properties, said) in [(sending(*case[:2]), case) for case in cases]:
        out, err = command.communicate(timeout=90)
        assert (out, command.returncode) == ("", DEPENDENCY), err
        (line,) = err.splitlines()
        assert line.startswith("photo-tagger: kafka: "), line
        assert listener in line
        assert said in line, properties
        assert "right" not in line
