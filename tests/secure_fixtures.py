"""Servers that let in only whom they know, over TLS: one of each for a session, started when a test first asks."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from consumer.embedded.paths import free_port
from consumer.embedded.redis import Redis
from consumer.embedded.servers import Servers
from tests.certificates import Certificates, make_certificates
from tests.secure_kafka import SecureKafka, start_secure_kafka

#: What is documented there runs in the tests.
PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "secure.md"
#: Of every user of Redis, in no other place; with what a URL must encode.
REDIS_PASSWORD = "canary/redis#5d1"


@dataclass(frozen=True)
class SecureRedis:
    """A Redis with the users of the documented ACL file, in the clear on `port` and over TLS on `tls_port`."""

    server: Redis
    tls_port: int
    certificates: Certificates

    def url(
        self,
        user: str = "tagger",
        password: str = REDIS_PASSWORD,
        *,
        host: str = "localhost",
        authority: Path | None = None,
        more: str = "",
    ) -> str:
        """A URL over TLS."""
        place = f"{user}:{quote(password, safe='')}@{host}:{self.tls_port}"
        return f"rediss://{place}/0?ssl_ca_certs={authority or self.certificates.authority}{more}"

    @property
    def plain(self) -> str:
        """The URL in the clear of one who may do anything."""
        return f"redis://operator:{quote(REDIS_PASSWORD, safe='')}@127.0.0.1:{self.server.port}/0"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of `localhost` and a client, both signed by an authority, and another authority."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def secure_kafka(servers: Servers, certificates: Certificates) -> SecureKafka:
    """A Kafka with a listener for each way of logging in."""
    return start_secure_kafka(servers, certificates)


@pytest.fixture(scope="session")
def secure_redis(servers: Servers, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> SecureRedis:
    """A Redis with the documented users."""
    if shutil.which("redis-server") is None:
        pytest.skip("the redis-server of the wheel speaks no TLS")
    users = re.findall(r"^user .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    users.append("user operator on >PASSWORD ~* &* +@all")
    acl = tmp_path_factory.mktemp("redis") / "users.acl"
    acl.write_text("".join(f"{user}\n" for user in users).replace("PASSWORD", REDIS_PASSWORD), encoding="utf-8")
    port, own = free_port(), certificates
    options = [
        *("--tls-port", str(port), "--tls-cert-file", str(own.server), "--tls-key-file", str(own.server_key)),
        *("--tls-ca-cert-file", str(own.authority), "--tls-auth-clients", "optional", "--aclfile", str(acl)),
    ]
    return SecureRedis(servers.start_redis("redis-secure", options=options), port, certificates)


def documented_permissions() -> list[tuple[str, str, str, list[str]]]:
    """The rows of the page: for which commands, the resource, its name, and the operations."""
    rows = re.findall(
        r"^\| (`.*`) \| (topic|group) \| `(.*)` \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return [(who, kind, name, operations.split(", ")) for who, kind, name, operations in rows]
