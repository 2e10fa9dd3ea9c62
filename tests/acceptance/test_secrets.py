"""Kafka, Redis and Triton are locked: the service works with the documented rights, and no secret is told."""

import asyncio
import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import pytest

from consumer.embedded.paths import free_port
from consumer.embedded.servers import Servers
from consumer.embedded.triton import Triton
from consumer.errors import DependencyDown
from consumer.kafka.topics import create_topics
from consumer.reader import RedisError, TagReader
from consumer.topic_names import TopicNames
from consumer.triton.channel import Tls
from consumer.triton.inference import TritonClient
from tests.certificates import Certificates
from tests.collector import Collector, collecting
from tests.fake_models import write_repository
from tests.harness import RED, eventually, headers_of, read_topic
from tests.harness_process import ROOT, RunningTagger, photo_tagger
from tests.secure_fixtures import SecureRedis, documented_permissions
from tests.secure_kafka import USER, SecureKafka

SETTINGS = 3
DEPENDENCY = 5
#: In every secret, and in nothing else.
CANARY = "canary"
TRITON_KEY = "canary-triton-2b8"
COLLECTOR_KEY = "canary-collector-6f3"
STORES = {"s3://photos": {"endpoint": "http://127.0.0.1:1", "region": "r", "access_key_id": "canary-id-1",
                          "secret_access_key": "canary-s3-9c4"}}  # fmt: skip
REFUSED = "https://me:canary-photo-4d2@photos.example/a.jpg?sig=canary-sig-8e1"
SIGNED = "http://127.0.0.1:1/b.jpg?sig=canary-sig-8e1"


@dataclass(frozen=True)
class Stack:
    """The locked servers and the variables of who may use them, secrets in files."""

    kafka: SecureKafka
    redis: SecureRedis
    triton: Triton
    folder: Path
    variables: dict[str, str]
    collector: Collector

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **self.variables}

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """One command, by which no secret may be told."""
        ended = photo_tagger(*arguments, env=self.environment | more, cwd=self.folder)
        assert CANARY not in (ended.stdout + ended.stderr).lower(), arguments
        return ended

    def traced_outcomes(self) -> set[str]:
        """The outcomes of the records whose traces the collector has."""
        spans = self.collector.named(f"process {TopicNames().uploads}")
        return {span.attributes["photo_tagger.outcome"] for span in spans}

    def allow(self, command: str) -> None:
        """Lets the user do what the page lists for a command."""
        for who, kind, name, operations in documented_permissions():
            if who == command:
                self.kafka.allow(f"User:{USER}", kind, name, *operations)


@pytest.fixture(scope="module")
def triton(servers: Servers, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A Triton over TLS that loads models for its key alone."""
    own = certificates
    options = [
        *("--grpc-use-ssl=true", f"--grpc-server-cert={own.server}", f"--grpc-server-key={own.server_key}"),
        f"--grpc-restricted-protocol=model-repository:admin-key={TRITON_KEY}",
    ]
    repository = write_repository(tmp_path_factory.mktemp("models"))
    started = servers.start_triton(repository, name="triton-secure", options=options)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """What takes the traces."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def stack(
    secure_kafka: SecureKafka,
    secure_redis: SecureRedis,
    triton: Triton,
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
) -> Stack:
    """The stack with the topics of an installation, where its user may do what the page lists for `run`."""
    folder = tmp_path_factory.mktemp("secured")
    create_topics(secure_kafka.addresses["plain"], TopicNames(), partitions=1)
    secrets = {
        "TAGGER_KAFKA__EXTRA__SASL__PASSWORD": str(secure_kafka.secure()["sasl.password"]),
        "TAGGER_REDIS__URL": secure_redis.url(),
        "TAGGER_TRITON__ADMIN_KEY": TRITON_KEY,
        "TAGGER_FETCH__STORES": orjson.dumps(STORES).decode(),
        "TAGGER_TRACING__HEADERS": f"api-key={COLLECTOR_KEY}",
    }
    for variable, secret in secrets.items():
        (folder / variable).write_text(f"{secret}\n")
    login = {name: value for name, value in secure_kafka.secure().items() if name != "sasl.password"}
    variables = {
        **{f"{variable}_FILE": str(folder / variable) for variable in secrets},
        "TAGGER_KAFKA__BOOTSTRAP_SERVERS": secure_kafka.addresses["secure"],
        "TAGGER_KAFKA__EXTRA": orjson.dumps(login).decode(),
        "TAGGER_TRITON__URL": triton.grpc_url.replace("127.0.0.1", "localhost"),
        "TAGGER_TRITON__TLS": "true",
        "TAGGER_TRITON__TLS_CA": str(secure_kafka.certificates.authority),
        "TAGGER_FETCH__SCHEMES": "https,http,file",
        "TAGGER_FETCH__FILE_ROOT": str(folder / "photos"),
        "TAGGER_FETCH__ALLOW_ADDRESSES": "127.0.0.1:1",
        "TAGGER_FETCH__ATTEMPTS": "1",
        "TAGGER_FETCH__NOT_FOUND_GRACE_S": "0",
        "TAGGER_RETRY__ROUNDS": "0",
        "TAGGER_LOG__LEVEL": "debug",
        "TAGGER_LOG__FORMAT": "json",
        "TAGGER_SERVICE__WORKERS": "1",
        "TAGGER_TRACING__ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    (folder / "photos").mkdir()
    (folder / "photos" / "red.jpg").write_bytes(RED)
    made = Stack(secure_kafka, secure_redis, triton, folder, variables, collector)
    made.allow("`run`")
    return made


@pytest.fixture(scope="module")
def tagger(stack: Stack) -> Iterator[RunningTagger]:
    """The service, which has begun."""
    port, log_path = free_port(), stack.folder / "tagger.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "consumer.cli", "run"],
            env=stack.environment | {"TAGGER_HEALTH__PORT": str(port)},
            cwd=stack.folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    running = RunningTagger(process, log_path, port)
    try:
        running.wait_ready()
        yield running
    finally:
        process.kill()
        process.wait()


async def test_the_service_tags_photos_with_the_documented_rights_and_tells_no_secret(
    stack: Stack, tagger: RunningTagger
) -> None:
    refused = stack.run("send", REFUSED)
    assert refused.returncode == DEPENDENCY
    assert refused.stderr.startswith(f"photo-tagger: kafka: {stack.kafka.addresses['secure']}: ")
    stack.allow("`send`")
    await eventually(lambda: '"photo_id":"a.jpg"' in stack.run("send", REFUSED).stdout)
    for uri in (SIGNED, f"file://{stack.folder}/photos/red.jpg"):
        assert stack.run("send", uri).returncode == 0
    assert stack.run("tags", "red.jpg", "--wait", "30").returncode == 0
    plain, dead_topic = stack.kafka.addresses["plain"], TopicNames().dead
    await eventually(lambda: read_topic(plain, dead_topic))
    letter = read_topic(plain, dead_topic)[0]
    assert CANARY in letter.value().decode()  # the event as it came
    assert CANARY not in str(headers_of(letter))
    pages = [tagger.get(path)[1] for path in ("/metrics", "/ready", "/live")]
    assert 'tagger_records_total{outcome="tagged"} 1.0' in pages[0]
    assert CANARY not in str(pages)
    assert {line["event"] for line in tagger.log()} >= {"service.started", "photo.tagged", "dead_letter.published"}
    assert CANARY not in tagger.log_path.read_text().lower()
    await eventually(lambda: stack.traced_outcomes() >= {"tagged", "dead_lettered"})
    assert COLLECTOR_KEY in str(stack.collector.headers)
    assert CANARY.encode() not in b"".join(stack.collector.bodies).lower()


def test_every_command_does_its_work_with_the_documented_rights_and_tells_no_secret(stack: Stack) -> None:
    for who in ("`send`", "`topics`", "`dlq`", "`runs`, `replay`"):
        stack.allow(who)
    commands: dict[tuple[str, ...], int] = {
        ("topics",): 0,
        ("config",): 0,
        ("dlq", "list"): 0,
        ("models", "list"): 0,
        ("replay", "--from", "1h", "--wait", "5"): 0,
        ("doctor", "--verbose"): 0,
        ("lag",): 0,
        ("find",): 0,
        ("brands",): 0,
        ("status", "nobody"): 6,
        ("sweep",): 0,
        ("rebuild", "--check"): 0,
        ("check", REFUSED): 8,
        ("check", SIGNED): DEPENDENCY,
        ("check", "s3://photos/a.jpg"): DEPENDENCY,
    }
    with ThreadPoolExecutor(2) as pool:
        ended = dict(zip(commands, pool.map(lambda command: stack.run(*command), commands), strict=True))
    for command, code in commands.items():
        assert ended[command].returncode == code, ended[command]
    shown = {row["name"]: row["value"] for row in map(json.loads, ended["config",].stdout.splitlines())}
    assert shown["kafka.extra"].endswith("sasl.password=***")
    assert shown["triton.admin_key"] == shown["tracing.headers"] == "***"


@contextmanager
def pages(stack: Stack) -> Iterator[Callable[[str], str]]:
    """The web server: a page with its headers, or nothing. At its end, what it said holds no secret."""
    port = free_port()
    argv = [sys.executable, "-m", "consumer.cli", "web", "--port", str(port)]
    process = subprocess.Popen(
        argv, env=stack.environment, cwd=stack.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def page(path: str) -> str:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            try:
                connection.request("GET", path)
                response = connection.getresponse()
            except OSError:
                return ""
            return f"{response.status} {response.headers} {response.read().decode(errors='replace')}"

    try:
        yield page
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=30)
    assert CANARY not in said.lower()


@pytest.mark.usefixtures("tagger")
async def test_the_pages_of_the_browser_tell_no_secret(stack: Stack) -> None:
    for who in ("`send`", "`dlq`"):
        stack.allow(who)
    await eventually(lambda: stack.run("send", REFUSED).returncode == 0)
    with pages(stack) as page:
        await eventually(lambda: "a.jpg" in page("/dead-letters"), deadline_s=60)
        paths = ("/", "/photo?id=a.jpg", "/photo?id=nobody", "/picture?id=a.jpg", "/dead-letters", "/runs", "/service")
        shown = dict(zip(paths, map(page, paths), strict=True))
    assert "url_not_allowed" in shown["/photo?id=a.jpg"]
    assert CANARY not in str(shown).lower()


def test_the_reader_tells_no_secret_where_it_is_refused(stack: Stack) -> None:
    with TagReader(stack.redis.url(password="canary-wrong")) as reader, pytest.raises(RedisError) as refused:
        reader.get("red.jpg")
    assert CANARY not in f"{refused.value!r} {refused.value} {reader!r}".lower()


def test_a_wrong_key_of_triton_is_a_wrong_setting(stack: Stack) -> None:
    (stack.folder / "wrong-key").write_text("canary-another-key")
    ended = stack.run("models", "list", TAGGER_TRITON__ADMIN_KEY_FILE=str(stack.folder / "wrong-key"))
    assert ended.returncode == SETTINGS
    assert ended.stderr.startswith("photo-tagger: triton.admin_key (from TAGGER_TRITON__ADMIN_KEY_FILE): Triton at ")


def test_secrets_of_the_environment_and_of_the_file_are_not_shown_either(stack: Stack) -> None:
    (stack.folder / "tagger.toml").write_text(
        '[fetch]\nproxy = "http://me:canary-proxy-1e6@127.0.0.1:1"\n[kafka.extra]\n"ssl.key.password" = "canary-key"\n'
    )
    given = {
        "TAGGER_KAFKA__EXTRA__SASL__PASSWORD": "canary-kafka",
        "TAGGER_REDIS__URL": "rediss://me:canary-redis@127.0.0.1:1/0?ssl_password=canary-key",
        "TAGGER_TRITON__ADMIN_KEY": "canary-triton",
        "TAGGER_FETCH__STORES": json.dumps(STORES),
    }
    bare = replace(stack, variables={})
    assert bare.run("config", **given).returncode == 0
    for command in (("tags", "p"), ("check", "s3://photos/a.jpg"), ("check", "https://photos.example/a?canary-sig")):
        assert bare.run(*command, **given).returncode == DEPENDENCY
    (stack.folder / "tagger.toml").unlink()


async def told(triton: Triton, tls: Tls | None, host: str = "localhost") -> str:
    """What is said of a Triton that cannot be used."""
    url = triton.grpc_url.replace("127.0.0.1", host)
    async with TritonClient(url, deadline_s=5, tls=tls) as client:
        with pytest.raises(DependencyDown) as down:
            await client.ping()
    assert down.value.detail.startswith(f"{url}: ")
    return down.value.detail


@pytest.mark.parametrize(
    ("tls_of", "host", "said"),
    [
        (lambda _: None, "localhost", "; perhaps Triton wants TLS (triton.tls)"),
        (lambda _: Tls(), "localhost", "; Triton's certificate is signed by none of triton.tls_ca"),
        (lambda own: Tls(own.other), "localhost", "; Triton's certificate is signed by none of triton.tls_ca"),
        (lambda own: Tls(own.authority), "127.0.0.1", "; Triton's certificate is of another name"),
        (lambda own: Tls(own.authority, own.client, own.server_key), "localhost", "; triton.tls_key is not the key of"),
    ],
)
async def test_what_does_not_fit_a_triton_over_tls_is_said(
    tls_of: Callable[[Certificates], Tls | None], host: str, said: str, triton: Triton, certificates: Certificates
) -> None:
    line = await told(triton, tls_of(certificates), host)
    assert said in line
    assert "\n" not in line


async def test_a_triton_that_does_not_speak_tls_is_said(certificates: Certificates) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"localhost:{server.sockets[0].getsockname()[1]}"
    async with server, TritonClient(url, deadline_s=5, tls=Tls(certificates.authority)) as client:
        with pytest.raises(
            DependencyDown, match=f"^triton: {url}: .*; Triton does not speak TLS there: triton.tls=false"
        ):
            await client.ping()


def test_a_command_ends_with_one_line_about_a_triton_that_does_not_fit(stack: Stack) -> None:
    ended = stack.run("models", "list", TAGGER_TRITON__TLS_CA=str(stack.kafka.certificates.other))
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (DEPENDENCY, "", 1)
    assert "; Triton's certificate is signed by none of triton.tls_ca, or expired\n" in ended.stderr
    ended = stack.run("models", "list", TAGGER_TRITON__TLS_CA="/none.pem")
    assert ended.returncode == SETTINGS
    assert ended.stderr == (
        "photo-tagger: triton.tls_ca (from TAGGER_TRITON__TLS_CA): cannot read /none.pem: No such file or directory\n"
    )
