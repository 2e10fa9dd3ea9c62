"""What only the client can read of a URL is read before anything is asked of Redis."""

from collections.abc import Callable

import pytest

from consumer.errors import SettingsError
from consumer.reader import TagReader
from consumer.redis.async_link import AsyncLink
from consumer.redis.urls import readable


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://me:p@h:1/3?socket_timeout=2.5&ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=2",
        "redis://[::1]:6379/0?health_check_interval=5",
    ],
)
def test_what_the_client_reads_stays_as_it_is(url: str) -> None:
    assert readable(url) == url


@pytest.mark.parametrize(
    ("url", "words"),
    [("redis://h?socket_timeout=x", "socket_timeout"), ("redis://h?db=a", "db"), ("redis://h?a=b", "'a'")],
)
@pytest.mark.parametrize("make", [readable, TagReader, lambda url: AsyncLink(url, 1.0, cluster=False)])
def test_an_option_that_is_none_is_a_wrong_setting(url: str, words: str, make: Callable[[str], object]) -> None:
    with pytest.raises(SettingsError, match=f"^redis.url: an option behind its . is wrong: .*{words}"):
        make(url)
