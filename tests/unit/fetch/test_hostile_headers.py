"""Headers of a host are text of a stranger: whatever they hold, the fetch ends with one of its own errors."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from consumer.errors import PhotoRejected
from consumer.fetch.http import retry_after_s
from consumer.fetch.urls import check_web, origin, redirected
from tests.photo_host import Host, failure, limits_for, response

NOW = datetime(2026, 11, 21, tzinfo=UTC)

dates = st.from_regex(
    r"(Mon, )?\d{1,30} (Jan|Feb|Xyz) \d{1,30} \d{1,30}:\d{1,30}:\d{1,30} ([+-]\d{1,30}|GMT|EST|)", fullmatch=True
)


@given(st.one_of(st.text(max_size=60), dates, st.integers().map(str), st.floats().map(str)))
def test_any_retry_after_is_a_bounded_wait_or_unreadable(header: str) -> None:
    seconds = retry_after_s(header, NOW)
    assert seconds is None or 0 <= seconds <= 3600


@pytest.mark.parametrize(
    "header",
    [
        "9" * 5_000,
        "-9",
        "1.5e308",
        "Mon, 20 Nov 1995 19:12:08 -99999999999999999999",
        "Fri, 31 Dec 9999 23:59:59 -1200",
        "Fri, 31 Dec 99999999999999999999 23:59:59 GMT",
        "Fri, 31 Dec 2026 99999999999999999999:59:59 GMT",
    ],
)
@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_a_retry_after_that_overflows_is_no_bug_of_ours(host: Host, header: str, status: str) -> None:
    error = await failure(host.serve("/a", response(status, Retry_After=header)), limits_for(host))
    assert error.reason == "http_5xx"


labels = st.one_of(st.sampled_from(["xn--", "xn--a", "XN--zz9", "xn--\u00fc", "a", ""]), st.text(max_size=8))


@given(
    st.one_of(
        st.text(max_size=40),
        st.text(max_size=40).map("//".__add__),
        st.lists(labels, min_size=1, max_size=3).map(lambda parts: "https://" + ".".join(parts) + "/a"),
    ),
)
def test_any_location_is_a_url_or_not_allowed(location: str) -> None:
    reason = None
    try:
        url = redirected(URL("https://photos.example/a"), location)
        check_web(url, ("https", "http"))
        assert origin(url)
    except PhotoRejected as rejected:
        reason = rejected.reason
    assert reason in {None, "url_not_allowed"}
