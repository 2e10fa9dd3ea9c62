"""The reasons of brokers, from lines as librdkafka 2.16 writes them against real Kafka listeners."""

import socket

import pytest
from confluent_kafka import KafkaError

from consumer.errors import DependencyDown, SettingsError
from consumer.kafka import clients, reasons, topic_review, topics
from consumer.kafka.brokers import Brokers
from consumer.kafka.clients import explain
from consumer.kafka.reasons import Reasons
from consumer.operations import admin
from consumer.settings import Settings
from consumer.settings.sections import KafkaSettings
from consumer.telemetry import Metrics
from tests.fakes import RecordingLog

NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def known() -> Reasons:
    """The reasons of this process, of which there are none yet."""
    reasons.REASONS._of.clear()
    return reasons.REASONS


def said(known: Reasons, line: str, broker: str = "b:9092/bootstrap") -> str:
    known.log(40, "%s [%s] %s", "FAIL", "rdkafka#producer-1", f"[thrd:{broker}]: {broker}: {line}")
    return str(known)


@pytest.mark.parametrize(
    ("broker", "line", "reason"),
    [
        (
            "b:9092/bootstrap",
            "Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
            "b:9092: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
        ),
        (
            "b:9092/bootstrap",
            "Failed to resolve 'b:9092': Not known (after 1ms in state CONNECT, 30 identical error(s) suppressed)",
            "b:9092: Failed to resolve 'b:9092': Not known",
        ),
        (
            "kafka:9092/1",
            "Failed to resolve 'kafka:9092': Name or service not known (after 1ms in state CONNECT)",
            (
                "kafka:9092: Failed to resolve 'kafka:9092': Name or service not known; "
                "broker 1 has this address from advertised.listeners"
            ),
        ),
        (
            "b:9092/bootstrap",
            "Disconnected: connection closed by peer: receive 0 after POLLIN (after 4ms in state APIVERSION_QUERY)",
            "perhaps the listener wants TLS: security.protocol ssl or sasl_ssl",
        ),
        (
            "sasl_plaintext://[::1]:9092/bootstrap",
            "Disconnected: connection reset by peer (after 4ms in state APIVERSION_QUERY)",
            "sasl_plaintext://[::1]:9092: Disconnected: connection reset by peer; perhaps the listener wants TLS",
        ),
        (
            "ssl://b:9092/bootstrap",
            "Disconnected: SSL connection closed by peer (after 2ms in state UP)",
            "perhaps the listener wants a login: security.protocol sasl_plaintext or sasl_ssl",
        ),
        (
            "ssl://b:9092/bootstrap",
            (
                "SSL handshake failed: Disconnected: SSL connection closed by peer: "
                "connecting to a PLAINTEXT broker listener? (after 7ms in state SSL_HANDSHAKE)"
            ),
            "connecting to a PLAINTEXT broker listener?",
        ),
        (
            "ssl://b:9092/bootstrap",
            "SSL handshake failed: error:SSL routines::wrong version number (after 1ms in state SSL_HANDSHAKE)",
            "the listener does not speak TLS",
        ),
        (
            "ssl://b:9092/bootstrap",
            (
                "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could"
                " not be verified, verify that ssl.ca.location is correctly configured or root CA certificates are "
                "installed (install ca-certificates package) (after 3ms in state SSL_HANDSHAKE)"
            ),
            "(install ca-certificates package); the certificate is signed by none of ssl.ca.location, of another name",
        ),
        (
            "ssl://b:9092/bootstrap",
            "error:0A000410:SSL routines::ssl/tls alert handshake failure: SSL alert number 40 (after 2ms in state UP)",
            "SSL alert number 40; no TLS version or cipher in common",
        ),
        (
            "ssl://b:9092/bootstrap",
            (
                "Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: SSL alert number 42 "
                "(after 9ms in state APIVERSION_QUERY)"
            ),
            "the listener wants a certificate of the client: ssl.certificate.location",
        ),
        (
            "sasl_plaintext://b:9092/bootstrap",
            (
                "SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL state: "
                "broker's supported mechanisms:  (after 5ms in state AUTH_HANDSHAKE)"
            ),
            "broker's supported mechanisms; the listener asks for no login: security.protocol plaintext or ssl",
        ),
        (
            "sasl_plaintext://b:9092/bootstrap",
            "SASL authentication error: Authentication failed: Invalid password (after 5ms in state AUTH_REQ)",
            "sasl_plaintext://b:9092: SASL authentication error: Authentication failed: Invalid password",
        ),
        (
            "b:9092/bootstrap",
            (
                "Receive failed: Invalid response size 1213486160 (0..100000000): increase receive.message.max.bytes "
                "(after 0ms in state APIVERSION_QUERY)"
            ),
            "what answers is no Kafka, or wants TLS: security.protocol ssl or sasl_ssl",
        ),
    ],
)
def test_a_line_of_librdkafka_is_a_reason_that_says_what_to_do(
    broker: str, line: str, reason: str, known: Reasons
) -> None:
    found = said(known, line, broker)
    assert reason in found
    assert "after" not in found.replace("receive 0 after POLLIN", "")
    assert "[thrd" not in found


def test_a_broker_that_stops_is_not_said_to_want_a_login(known: Reasons) -> None:
    assert "login" not in said(known, "Disconnected: connection closed by peer (after 120345ms in state UP)")


@pytest.mark.parametrize(
    ("facility", "line"),
    [
        ("OIDC", 'Failed to retrieve OIDC token from "http://127.0.0.1:1/token": Failed to connect'),
        (
            "BROKER",
            'Broker name "ssl://b:1" parse error: protocol "SSL" does not match security.protocol setting "plaintext"',
        ),
    ],
)
def test_what_keeps_a_client_from_any_broker_is_a_reason(known: Reasons, facility: str, line: str) -> None:
    known.log(3, "%s [%s] %s", facility, "rdkafka#producer-1", f"[thrd:app]: {line}")
    assert str(known) == line


def test_other_lines_are_no_reasons(known: Reasons) -> None:
    known.log(30, "%s [%s] %s", "CONFWARN", "rdkafka#producer-1", "[thrd:app]: b:9092/1: nothing to see")
    known.log(40, "%s [%s] %s", "FAIL", "rdkafka#producer-1", "what no client says")
    assert str(known) == ""


def test_the_last_reasons_of_three_brokers_are_told_for_a_minute(
    known: Reasons, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(reasons, "monotonic", lambda: now_s)
    for number in (1, 2, 1, 3, 4):
        now_s += 10.0
        said(known, f"failed at {now_s:.0f}", f"b{number}:9092/{number}")
    assert str(known) == "b4:9092: failed at 1050; b3:9092: failed at 1040; b1:9092: failed at 1030"
    now_s += 55.0
    assert str(known) == "b4:9092: failed at 1050"
    now_s += 60.0
    assert str(known) == ""


def test_an_error_that_says_nothing_of_the_brokers_is_told_by_their_reasons(known: Reasons) -> None:
    blind = KafkaError(KafkaError._ALL_BROKERS_DOWN)
    assert explain(blind, "b:9092") == f"b:9092: _ALL_BROKERS_DOWN: {blind.str()}"
    said(known, "refused")
    assert explain(blind, "b:9092") == "b:9092: refused (_ALL_BROKERS_DOWN)"
    assert explain(KafkaError(KafkaError.TOPIC_EXCEPTION), "topic t").startswith("topic t: TOPIC_EXCEPTION: ")


@pytest.mark.parametrize("about", ["topic t", f"{NOWHERE}: topic t"])
def test_what_a_user_may_not_do_is_told_with_the_servers_and_where_its_rights_are_listed(about: str) -> None:
    clients.producer_client(NOWHERE, {})
    own = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    told = f"TOPIC_AUTHORIZATION_FAILED: {own.str()}; docs/how-to/secure.md lists the permissions"
    assert explain(own, about) == f"{NOWHERE}: topic t: {told}"


def test_a_port_where_nothing_listens_is_named_by_every_client(known: Reasons, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_METADATA_TIMEOUT_S", 0.5)
    for client in (clients.producer_client(NOWHERE, {}), clients.reader_client(NOWHERE, {})):
        with pytest.raises(DependencyDown, match=f"kafka: {NOWHERE}: .* Connection refused"):
            clients.require_topics(client, NOWHERE, ["t"])
        known._of.clear()
    monkeypatch.setattr(topics, "_CREATE_TIMEOUT_S", 0.5)
    with pytest.raises(DependencyDown, match=f"kafka: {NOWHERE}: .* Connection refused"):
        topics.create_topics(NOWHERE, topics.TopicNames())
    known._of.clear()
    monkeypatch.setattr(topic_review, "_TIMEOUT_S", 0.5)
    with pytest.raises(DependencyDown, match=f"kafka: {NOWHERE}: .* Connection refused"):
        topic_review.review_topics(NOWHERE, topics.TopicNames(), {})


def test_what_listens_and_never_answers_is_said_not_to_answer(known: Reasons, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_METADATA_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DependencyDown, match=rf"^kafka: {address} did not answer in 0\.5 s$"):
            clients.require_topics(clients.producer_client(address, {}), address, ["t"])
    assert str(known) == ""


def test_what_the_topics_wait_for_is_told_while_they_wait(known: Reasons, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_CREATE_TIMEOUT_S", 30.0)
    known._of.clear()

    def waits(reason: str) -> None:
        assert f"{NOWHERE}: " in reason
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        topics.create_topics(NOWHERE, topics.TopicNames(), waits=waits)


def test_the_wait_for_topics_ends_in_its_time_with_the_reason(known: Reasons, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "_LEAST_WAIT_S", 0.5)
    monkeypatch.setattr(topics, "_CREATE_TIMEOUT_S", 1_000.0)
    known._of.clear()
    told = list[str]()
    nowhere = Settings(kafka=KafkaSettings(bootstrap_servers=NOWHERE))
    with pytest.raises(DependencyDown, match=f"^kafka: {NOWHERE}: .* Connection refused$"):
        admin.create_topics_patiently(nowhere, 1, 1, 0.0, told.append)
    assert {f"kafka: {NOWHERE}: Connect to ipv4#{NOWHERE} failed: Connection refused"} == {
        f"kafka: {one}" for one in told
    }


def test_the_loss_of_all_brokers_is_logged_and_complained_of_with_its_reason(known: Reasons) -> None:
    log, metrics = RecordingLog(), Metrics()
    brokers = Brokers(lambda _: None, log, metrics)
    assert brokers.complaint is None
    said(known, "refused")
    brokers.on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    (lost,) = log.named("dependency.lost")
    assert lost["detail"] == "b:9092: refused (_ALL_BROKERS_DOWN)"
    assert brokers.complaint == "kafka: b:9092: refused"
    brokers.answered(float("inf"))
    assert brokers.complaint is None


@pytest.mark.parametrize(
    ("properties", "setting", "said"),
    [
        ({"nonsense.property": 1}, "kafka.extra.nonsense.property", "No such configuration property"),
        ({"security.protocol": "tls"}, "kafka.extra.security.protocol", 'Invalid value "tls"'),
        ({"security.protocol": "sasl_ssl", "sasl.mechanism": "FOO"}, "kafka.extra", "Unsupported SASL mechanism: FOO"),
        (
            {"security.protocol": "sasl_ssl", "sasl.mechanism": "OAUTHBEARER"},
            "kafka.extra.sasl.oauthbearer.method",
            "set it to oidc",
        ),
        ({"security.protocol": "ssl", "ssl.ca.location": "/none.pem"}, "kafka.extra", "ssl.ca.location failed"),
    ],
)
def test_a_property_that_librdkafka_refuses_is_a_wrong_setting(
    properties: clients.Properties, setting: str, said: str
) -> None:
    for make in (clients.producer_client, clients.reader_client, clients.admin_client):
        with pytest.raises(SettingsError) as caught:
            make(NOWHERE, properties)
        assert (caught.value.setting, said in caught.value.detail) == (setting, True), caught.value


def test_a_record_whose_time_is_refused_is_told_with_the_clocks() -> None:
    assert "clock of this machine" in explain(KafkaError(KafkaError.INVALID_TIMESTAMP), "topic photo-tags")
