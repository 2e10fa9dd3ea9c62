"""One place has one origin, however its URL is spelled, and no two places share one."""

import ipaddress
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.errors import PhotoRejected
from consumer.fetch.addresses import literal, parse_allow_list, refusal
from consumer.fetch.urls import check_web, host_of, origin, parsed

#: Labels as people write them, and as DNS has them.
IDN = {
    "bücher": "xn--bcher-kva",
    "straße": "xn--strae-oqa",
    "例え": "xn--r8jz45g",
    "☃": "xn--n3h",
}
DEFAULT_PORTS = {"http": 80, "https": 443}

labels = st.one_of(
    st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True),
    st.sampled_from([*IDN]),
    st.sampled_from(["photos", "xn--", "xn--a", "a-1", "1password", "strasse", "bucher"]),
)
names = st.lists(labels, min_size=1, max_size=3).map(lambda first: ".".join((*first, "example")))
hosts = st.one_of(names, st.ip_addresses().map(str))


@dataclass(frozen=True)
class Place:
    """Where a URL leads; `host` has every label as people write it."""

    scheme: str
    host: str
    port: int

    @property
    def origin(self) -> str:
        host = ".".join(IDN.get(label, label) for label in self.host.split("."))
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"


places = st.builds(
    Place, st.sampled_from(["http", "https"]), hosts, st.one_of(st.sampled_from([80, 443, 0]), st.integers(0, 65_535))
)


@st.composite
def in_any_case(draw: st.DrawFn, text: str) -> str:
    """Letters in any case, where that is undone by lower case."""
    chosen = [draw(st.sampled_from([char, char.upper()])) for char in text]
    return "".join(new if new.lower() == old else old for new, old in zip(chosen, text, strict=True))


@st.composite
def spelled_hosts(draw: st.DrawFn, host: str) -> str:
    if (address := literal(host)) is not None:
        if isinstance(address, ipaddress.IPv4Address):
            return host
        return f"[{draw(in_any_case(draw(st.sampled_from([address.exploded, address.compressed]))))}]"
    dot = "."
    spelled = [draw(st.sampled_from([label, IDN.get(label, label)])) for label in host.split(".")]
    # Labels that only look like A-labels cannot stand beside ones that are not ASCII.
    if not {"xn--", "xn--a"} & set(spelled):
        dot = draw(st.sampled_from([".", "\u3002", "\uff0e"]))
    elif not "".join(spelled).isascii():
        spelled = [IDN.get(label, label) for label in spelled]
    return draw(in_any_case(dot.join(spelled))) + draw(st.sampled_from(["", dot]))


@st.composite
def urls(draw: st.DrawFn, place: Place) -> str:
    ports = [f":{place.port}", f":0{place.port}"]
    if place.port == DEFAULT_PORTS[place.scheme]:
        ports += ["", ":"]
    scheme, host = draw(in_any_case(place.scheme)), draw(spelled_hosts(place.host))
    user = draw(st.sampled_from(["", "me@", "me:hunter2@", "@"]))
    path = draw(st.sampled_from(["", "/", "/a/b.jpg?sig=a%2Fb&host=x:1#@h", "?@h:1", "#@h"]))
    return f"{scheme}://{user}{host}{draw(st.sampled_from(ports))}{path}"


@given(st.data(), places)
def test_every_spelling_of_a_place_has_its_one_origin(data: st.DataObject, place: Place) -> None:
    uri = data.draw(urls(place))
    assert origin(parsed(uri)) == place.origin


@given(st.data(), places, places)
def test_two_places_never_share_an_origin(data: st.DataObject, one: Place, other: Place) -> None:
    first, second = (origin(parsed(data.draw(urls(place)))) for place in (one, other))
    assert (first == second) == (one == other)


@given(places)
def test_an_origin_is_a_url_of_its_own_place(place: Place) -> None:
    assert origin(parsed(place.origin)) == place.origin


@given(st.data(), places.filter(lambda place: place.port > 0 and ":" not in place.host))
def test_a_host_of_the_allow_list_is_the_host_of_the_url(data: st.DataObject, place: Place) -> None:
    allowed = parse_allow_list([f"{data.draw(spelled_hosts(place.host))}:{place.port}"])
    url = parsed(data.draw(urls(place)))
    assert refusal("10.0.0.1" if literal(place.host) is None else place.host, host_of(url), place.port, allowed) in {
        None,
        "link-local",
        "metadata",
    }
    assert allowed.endpoints == {(host_of(url), url.port)}


@given(
    st.one_of(
        st.text(max_size=40),
        st.text(st.sampled_from("htps:/[]@.%aA1xn-\u3002ß①٣\\?#\u200d\u2100"), max_size=24).map("http://".__add__),
        st.text(max_size=20).map("https://{}.example/a".format),
        st.text(max_size=20).map("s3://".__add__),
    )
)
@example("HTTP://XN--")
@example("https://a:0")
def test_whatever_cannot_be_read_is_rejected_and_raises_nothing_else(uri: str) -> None:
    rejection = None
    try:
        url = parsed(uri)
        assert origin(url).isascii()
        if url.scheme in DEFAULT_PORTS:
            check_web(url, ("http", "https"))
    except PhotoRejected as rejected:
        rejection = rejected
    if rejection is not None:
        assert rejection.reason == "url_not_allowed"
        assert len(rejection.detail) < 400


@pytest.mark.parametrize(
    "uri",
    [
        "https://ex%61mple.com/",
        "https://[::1%25lo]/",
        "https://[v1.a]/",
        "https://me@[v1.a]/",
        "https://127.0.0.1./",
        "https://127.1/",
        "https://a..b/",
        "https://.a/",
        "https:///a",
        "https://[]@",
        "https://[::1]@/a",
        "https:a",
        "ftp://h/a",
        "//h/a",
        "",
    ],
)
def test_what_names_no_place_is_rejected(uri: str) -> None:
    with pytest.raises(PhotoRejected) as caught:
        origin(parsed(uri))
    assert caught.value.reason == "url_not_allowed"


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("https://Photos.example:8443/a?b", "https://photos.example:8443"),
        ("https://user:secret@h/a", "https://h:443"),
        ("http://[::1]/a", "http://[::1]:80"),
        ("s3://bucket/key", "s3://bucket"),
        ("S3://bucket:/key", "s3://bucket"),
        ("s3://me:hunter2@bucket/key", "s3://bucket"),
        ("s3://Bucket/key", "s3://Bucket"),
        ("file:///photos/a.jpg", "file://"),
        ("file://localhost/photos/a.jpg", "file://"),
    ],
)
def test_the_origin_names_the_host_and_no_secret(uri: str, place: str) -> None:
    assert origin(parsed(uri)) == place


def test_a_uri_that_is_no_url_has_no_origin() -> None:
    with pytest.raises(PhotoRejected, match="url_not_allowed"):
        parsed("https://[::1")


@pytest.mark.parametrize("user", ["\u00fc", "\u00fc:x", "a:\u00fc", "\u00fc@b"])
def test_a_user_name_is_not_encoded_as_a_host(user: str) -> None:
    plain, idn = (parsed(f"http://{user}@{host}/a") for host in ("ascii.example", "b\u00fccher.example"))
    assert "xn--" not in plain.raw_authority
    assert idn.raw_authority.rpartition("@")[2] == "xn--bcher-kva.example"
    assert plain.raw_authority.rpartition("@")[0] == idn.raw_authority.rpartition("@")[0]
