"""A real Kafka with a listener for each way of logging in, where only known users may do anything."""

import re
from dataclasses import dataclass

import orjson
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its types leave some out
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from consumer.embedded.kafka import Kafka, free_addresses
from consumer.embedded.servers import Servers
from consumer.kafka.clients import Properties
from tests.certificates import Certificates

#: The password of every user.
PASSWORD = "canary-kafka-7f3"
#: May do what ACLs let it do, and nothing else.
USER = "tagger"
#: May do nothing.
STRANGER = "stranger"
_TIMEOUT_S = 10
_LISTENERS = {"PLAIN": "PLAINTEXT", "TLS": "SSL", "LOGIN": "SASL_PLAINTEXT", "SECURE": "SASL_SSL", "MUTUAL": "SSL"}


@dataclass(frozen=True)
class SecureKafka:
    """Its addresses by the name of a listener, in lower case, all on `localhost`; `plain` is the operator's own."""

    addresses: dict[str, str]
    certificates: Certificates
    server: Kafka

    @property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.addresses["plain"]})

    @property
    def trusting(self) -> dict[str, str]:
        return {"ssl.ca.location": str(self.certificates.authority)}

    def tls(self, **more: str) -> Properties:
        return {"security.protocol": "ssl", **self.trusting, **more}

    def login(self, mechanism: str = "PLAIN", user: str = USER, password: str = PASSWORD) -> Properties:
        return {
            "security.protocol": "sasl_plaintext",
            "sasl.mechanism": mechanism,
            "sasl.username": user,
            "sasl.password": password,
        }

    def secure(self, mechanism: str = "SCRAM-SHA-512", user: str = USER, password: str = PASSWORD) -> Properties:
        return {**self.login(mechanism, user, password), "security.protocol": "sasl_ssl", **self.trusting}

    def mutual(self) -> Properties:
        own = self.certificates
        return {
            **self.tls(),
            "ssl.certificate.location": str(own.client),
            "ssl.key.location": str(own.client_key),
        }

    def allow(self, principal: str, kind: str, name: str, *operations: str) -> None:
        """Lets a user do something with a topic or a group, or with all whose names begin with `name*`."""
        pattern = ResourcePatternType.PREFIXED if name.endswith("*") else ResourcePatternType.LITERAL
        bindings = [
            AclBinding(
                ResourceType[kind.upper()],
                name.rstrip("*"),
                pattern,
                principal,
                "*",
                AclOperation[re.sub(r"(?<!^)(?=[A-Z])", "_", operation).upper()],
                AclPermissionType.ALLOW,
            )
            for operation in operations
        ]
        admin = self.admin
        for done in admin.create_acls(bindings).values():
            done.result(_TIMEOUT_S)


def variables(servers: str, properties: Properties) -> dict[str, str]:
    """The environment in which a process uses these."""
    return {
        "TAGGER_KAFKA__BOOTSTRAP_SERVERS": servers,
        "TAGGER_KAFKA__EXTRA": orjson.dumps(properties).decode(),
    }


def start_secure_kafka(servers: Servers, certificates: Certificates, name: str = "kafka-secure") -> SecureKafka:
    """Starts it and makes its users."""
    *ports, controller = (address.rpartition(":")[2] for address in free_addresses(len(_LISTENERS) + 1))
    ends = {name: f"localhost:{port}" for name, port in zip(_LISTENERS, ports, strict=True)}
    listeners = ",".join(f"{name}://{address.replace('localhost', '127.0.0.1')}" for name, address in ends.items())
    protocols = ",".join(f"{name}:{protocol}" for name, protocol in _LISTENERS.items())
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    users = " ".join(f'user_{user}="{PASSWORD}"' for user in (USER, STRANGER))
    settings: dict[str, object] = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": ",".join(f"{name}://{address}" for name, address in ends.items()),
        "listener.security.protocol.map": f"{protocols},CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAIN",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": certificates.store,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": certificates.authority,
        "listener.name.mutual.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # Who comes without a login: the brokers themselves, and the operator on the listener in the clear.
        "super.users": "User:ANONYMOUS",
    }
    for listener in ("login", "secure"):
        settings[f"listener.name.{listener}.plain.sasl.jaas.config"] = f"{plain} {users};"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        settings[f"listener.name.{listener}.scram-sha-512.sasl.jaas.config"] = scram
    plain_address = ends["PLAIN"].replace("localhost", "127.0.0.1")
    kafka = Kafka(servers._guardian, name, addresses=(plain_address, f"127.0.0.1:{controller}"), settings=settings)
    kafka.start()
    found = SecureKafka({name.lower(): address for name, address in ends.items()}, certificates, kafka)
    made = [
        UserScramCredentialUpsertion(
            user, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4_096), PASSWORD.encode(), None
        )
        for user in (USER, STRANGER)
    ]
    admin = found.admin
    for done in admin.alter_user_scram_credentials(made).values():
        done.result(_TIMEOUT_S)
    return found
