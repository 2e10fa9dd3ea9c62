"""Redis over TLS with users of its own: what fits works with the documented permissions, and what does not is said."""

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from consumer.errors import DependencyDown, SettingsError
from consumer.operations.admin import find_photos, read_tags
from consumer.operations.sweep import sweep
from consumer.reader import RedisError, TagReader
from consumer.redis.store import Store
from consumer.settings import Settings
from tests.harness_process import ROOT, photo_tagger
from tests.integration.test_store import make_tags
from tests.secure_fixtures import REDIS_PASSWORD, SecureRedis

DEPENDENCY = 5
SETTINGS = 3
WRONG = "another-word"


async def test_the_documented_users_do_their_work(secure_redis: SecureRedis) -> None:
    url = secure_redis.url()
    with redis.Redis.from_url(secure_redis.plain) as operator:
        operator.flushall()
    async with Store(url, timeout_s=5) as store:
        await store.ping()
        assert (await store.write(make_tags("p", 1, ("puma",)))).outcome == "written"
        assert await store.differences([make_tags("p", 1, ("puma",))]) == [None]
    settings = Settings(redis={"url": url, "timeout_s": 5})
    assert list(read_tags(settings, ["p"], 0)) == ["p"]
    assert [found.photo_id for found in find_photos(settings, ["puma"], limit=5)] == ["p"]
    found = sweep(url, timeout_s=5, execute=True, found=lambda _: None)
    assert (found.entries, found.orphans) == (1, 0)
    with TagReader(secure_redis.url("reader"), timeout_s=5) as reader:
        assert reader.get("p") is not None
        assert [found.photo_id for found in reader.find("puma")] == ["p"]


async def test_a_client_shows_its_certificate_where_redis_wants_one(secure_redis: SecureRedis) -> None:
    own = secure_redis.certificates
    with redis.Redis.from_url(secure_redis.plain) as operator:
        operator.config_set("tls-auth-clients", "yes")
        try:
            shown = f"&ssl_certfile={own.client}&ssl_keyfile={own.client_key}"
            async with Store(secure_redis.url(more=shown), timeout_s=5) as store:
                await store.ping()
            assert "the server wants a certificate of the client: ssl_certfile" in await told(secure_redis.url())
        finally:
            operator.config_set("tls-auth-clients", "optional")


async def told(url: str) -> str:
    """What the service and the reader say of a Redis that they cannot use; both the same."""
    said = list[str]()
    async with Store(url, timeout_s=1) as store:
        with pytest.raises(DependencyDown) as down:
            await store.write(make_tags("p", 1))
        said.append(down.value.detail)
    with pytest.raises(DependencyDown) as down:
        read_tags(Settings(redis={"url": url, "timeout_s": 1}), ["p"], 0)
    said.append(down.value.detail)
    for line in said:
        assert "\n" not in line
        assert REDIS_PASSWORD not in line
        assert WRONG not in line
    return " | ".join(said)


CASES: dict[str, tuple[Callable[[SecureRedis], str], str]] = {
    "a wrong password": (lambda one: one.url(password=WRONG), "AuthenticationError: "),
    "an unknown user": (lambda one: one.url("nobody"), "AuthenticationError: "),
    "no password": (
        lambda one: f"rediss://localhost:{one.tls_port}?ssl_ca_certs={one.certificates.authority}",
        "; the URL has no password: ",
    ),
    "another authority": (
        lambda one: one.url(authority=one.certificates.other),
        "; the certificate is signed by none of ssl_ca_certs",
    ),
    "another name": (lambda one: one.url(host="127.0.0.1"), "IP address mismatch"),
    "TLS to a port in the clear": (
        lambda one: one.url().replace(f":{one.tls_port}", f":{one.server.port}"),
        "; perhaps the port does not speak TLS: redis://",
    ),
    "in the clear to TLS": (
        lambda one: one.plain.replace(f":{one.server.port}", f":{one.tls_port}"),
        "; perhaps the port wants TLS: rediss://",
    ),
    "an unknown host": (lambda one: one.url(host="nowhere.invalid"), "nowhere.invalid"),
    "a port where nothing listens": (lambda one: one.url().replace(f":{one.tls_port}", ":1"), "Error 111"),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_does_not_fit_is_said_in_one_line_that_names_the_server(
    case: str, secure_redis: SecureRedis
) -> None:
    make, cause = CASES[case]
    url = make(secure_redis)
    server = url.partition("?")[0].rpartition("@")[2].removeprefix("rediss://").removesuffix("/0")
    for line in (await told(url)).split(" | "):
        assert line.startswith(f"rediss://{server}: " if url.startswith("rediss") else f"{server}: ")
        assert cause in line


async def test_a_reader_may_not_write_and_is_told_what_it_lacks(secure_redis: SecureRedis) -> None:
    async with Store(secure_redis.url("reader"), timeout_s=5) as store:
        with pytest.raises(
            DependencyDown, match=r"^redis: rediss://localhost:.*; docs/how-to/secure.md lists the commands"
        ):
            await store.write(make_tags("q", 1))
    with TagReader(secure_redis.url("reader", WRONG), timeout_s=5) as reader, pytest.raises(RedisError) as refused:
        reader.get("p")
    assert WRONG not in str(refused.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("&ssl_certfile=/none.pem", "redis.url: ssl_certfile /none.pem: No such file or directory"),
        ("&ssl_keyfile=/none.pem", "redis.url: ssl_keyfile goes with ssl_certfile"),
        ("&ssl_cert_reqs=never", "redis.url: an option behind its ? is wrong: Invalid SSL Certificate Requirements"),
        ("&ssl_certfile={page}", "it is not PEM"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_wrong_setting(more: str, said: str, secure_redis: SecureRedis) -> None:
    for url in (secure_redis.url(more=more.format(page=__file__)),):
        with pytest.raises(SettingsError) as wrong:
            TagReader(url)
        assert said in str(wrong.value)
    with pytest.raises(SettingsError, match=r"redis.url: ssl_ca_certs /none.pem: No such file"):
        TagReader(secure_redis.url(authority=Path("/none.pem")))


def test_a_command_ends_with_one_line(secure_redis: SecureRedis, tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text(secure_redis.url(password=WRONG) + "\n")
    variables = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "TAGGER_REDIS__URL_FILE": str(secret)}
    ended = photo_tagger("tags", "p", env=variables, cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (DEPENDENCY, "", 1)
    assert ended.stderr.startswith(f"photo-tagger: redis: rediss://localhost:{secure_redis.tls_port}: Authentication")
    assert WRONG not in ended.stderr
    secret.write_text(secure_redis.url(authority=Path("/none.pem")))
    ended = photo_tagger("tags", "p", env=variables, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (SETTINGS, "")
    assert ended.stderr == (
        "photo-tagger: redis.url (from TAGGER_REDIS__URL_FILE): ssl_ca_certs /none.pem: No such file or directory\n"
    )
