"""Who may ask the pages, from where, and what may change something."""

import pytest
from aiohttp.test_utils import make_mocked_request

from consumer.errors import SettingsError
from consumer.settings import Settings
from consumer.webserver.guards import Guards, check_address


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "127.1", "[::1"),
        *("127.0.0.1@evil.example", "2130706433", "tags.example.", "a b", "\u0131"),
    ],
)
def test_a_name_that_others_may_point_here_is_refused(host: str) -> None:
    assert Guards(["tags.example"]).refusal("GET", host) is not None


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_methods_are_refused(method: str) -> None:
    assert Guards([]).refusal(method, "localhost") is not None


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "http://127.0.0.1:8080"}, True),
        ({"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "null"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:9999"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
def test_a_form_changes_something_only_from_a_page_of_this_server(headers: dict[str, str], *, allowed: bool) -> None:
    guards = Guards([])
    request = make_mocked_request("POST", "/", headers={"Host": "127.0.0.1:8080", **headers})
    assert guards.may_change(request, guards.token) is allowed
    for token in ("", "x", guards.token[:-1], Guards([]).token, "\udcff"):
        assert not guards.may_change(request, token)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_leave(host: str) -> None:
    check_address(Settings(web={"host": host}))


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.0.2.1", "tags.example", "localhost.example", "[::1]"])
def test_what_others_reach_needs_leave(host: str) -> None:
    with pytest.raises(SettingsError, match="open_to_network"):
        check_address(Settings(web={"host": host}))
    check_address(Settings(web={"host": host, "open_to_network": True}))
