import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.fetch.addresses import AllowList, canonical_host, embedded, parse_allow_list, refusal

NOTHING = AllowList()
PUBLIC = "93.184.216.34"

v4_addresses = st.ip_addresses(v=4)
v6_addresses = st.ip_addresses(v=6)
special_v4 = st.sampled_from(
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.0.3",
        "172.16.0.1",
        "192.168.1.1",
        "192.0.2.7",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "169.254.169.254",
        "100.100.100.200",
    ]
)


def carriers(inner: str) -> list[str]:
    """Every IPv6 address that carries this IPv4 address, for each known way of carrying."""
    number = int(ipaddress.IPv4Address(inner))
    forms = [
        0xFFFF << 32 | number,  # mapped
        0xFFFF << 48 | number,  # translated
        0x64FF9B << 96 | number,  # NAT64
        0x64FF9B0001 << 80 | number,  # NAT64, local use
        0x2002 << 112 | number << 80,  # 6to4
        0x20010000 << 96 | number << 64 | 0xFFFF_FFFF,  # Teredo, server
        0x20010000 << 96 | int(ipaddress.IPv4Address(PUBLIC)) << 64 | number ^ 0xFFFF_FFFF,  # Teredo, client
        0x2A00_1450 << 96 | 0x5EFE << 32 | number,  # ISATAP
        0x2A00_1450 << 96 | 0x02005EFE << 32 | number,  # ISATAP, universal bit
    ]
    return [str(ipaddress.IPv6Address(form)) for form in forms]


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", PUBLIC, "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::200e", "64:ff9b::808:808", "::ffff:8.8.8.8"],
)
def test_public_addresses_are_connected(address: str) -> None:
    assert refusal(address, "photos.example", 443, NOTHING) is None


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("10.0.0.1", "private"),
        ("fd12::1", "private"),
        ("169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fd00:ec2::254", "metadata"),
        ("168.63.129.16", "metadata"),
        ("100.64.0.1", "shared (carrier-grade NAT)"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("255.255.255.255", "reserved"),
        ("4000::1", "reserved"),
        ("2001:db8::1", "reserved"),
    ],
)
def test_special_addresses_are_refused_by_their_kind(address: str, kind: str) -> None:
    assert refusal(address, "photos.example", 443, NOTHING) == kind


@given(v4_addresses | v6_addresses)
def test_whatever_python_holds_for_not_global_is_refused(address: ipaddress.IPv4Address) -> None:
    carried = embedded(address)
    if not address.is_global and not carried:
        assert refusal(str(address), "h", 443, NOTHING) is not None


@given(special_v4)
def test_no_ipv6_form_hides_a_special_ipv4_address(inner: str) -> None:
    for address in carriers(inner):
        assert refusal(address, "photos.example", 443, NOTHING) is not None, address


@given(v4_addresses)
def test_an_ipv4_address_is_found_in_every_form_that_carries_it(inner: ipaddress.IPv4Address) -> None:
    for address in carriers(str(inner)):
        assert inner in embedded(ipaddress.ip_address(address)), address


@given(st.sampled_from(["169.254.169.254", "169.254.1.1", "fe80::1", "fd00:ec2::254", "fd20:ce::254"]))
def test_metadata_and_link_local_are_refused_however_they_are_allowed(address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    allowed = parse_allow_list(["0.0.0.0/0", "::/0", "metadata:80", f"{literal}:80"])
    assert refusal(address, "metadata", 80, allowed) is not None
    for carrier in carriers(address) if ":" not in address else ():
        assert refusal(carrier, "metadata", 80, allowed) is not None


def test_a_network_allows_its_addresses_on_every_port_and_no_other() -> None:
    allowed = parse_allow_list(["10.20.0.0/16"])
    assert refusal("10.20.3.4", "any", 8080, allowed) is None
    assert refusal("10.21.0.1", "any", 8080, allowed) == "private"
    assert refusal("::ffff:10.20.3.4", "any", 8080, allowed) is None
    assert refusal("::ffff:10.21.3.4", "any", 8080, allowed) == "private"


def test_a_host_is_allowed_on_its_port_only_and_only_by_that_name() -> None:
    allowed = parse_allow_list(["Minio.internal:9000"])
    assert refusal("10.0.0.5", "minio.INTERNAL", 9000, allowed) is None
    assert refusal("10.0.0.5", "minio.internal", 9001, allowed) == "private"
    assert refusal("10.0.0.5", "evil.example", 9000, allowed) == "private"


@pytest.mark.parametrize("entry", ["B\u00fccher.Intern:80", "XN--bcher-kva.intern:80", "b\u00fccher\u3002intern.:80"])
@pytest.mark.parametrize("host", ["xn--bcher-kva.intern", "XN--BCHER-KVA.Intern", "xn--bcher-kva.INTERN."])
def test_a_host_is_allowed_by_every_spelling_of_its_name(entry: str, host: str) -> None:
    allowed = parse_allow_list([entry])
    assert refusal("10.0.0.5", host, 80, allowed) is None
    assert refusal("10.0.0.5", "bucher.intern", 80, allowed) == "private"


def test_letters_of_one_name_are_not_taken_for_others_in_the_allow_list() -> None:
    allowed = parse_allow_list(["stra\u00dfe.intern:80"])
    assert refusal("10.0.0.5", "xn--strae-oqa.intern", 80, allowed) is None
    assert refusal("10.0.0.5", "strasse.intern", 80, allowed) == "private"


def test_an_address_is_allowed_on_its_port_only_whatever_name_led_to_it() -> None:
    allowed = parse_allow_list(["127.0.0.1:8000", "[::1]:8001"])
    assert refusal("127.0.0.1", "127.0.0.1", 8000, allowed) is None
    assert refusal("127.0.0.1", "localhost", 8000, allowed) is None
    assert refusal("127.0.0.1", "localhost", 8001, allowed) == "loopback"
    assert refusal("::1", "localhost", 8001, allowed) is None
    assert refusal("127.0.0.2", "localhost", 8000, allowed) == "loopback"


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "localhost",
        "10.0.0.1",
        "::1",
        "[::1]",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "host:0",
        "host:65536",
        "host:http",
        "http://host:80",
        "user@host:80",
        "a b:80",
        "::1:80",
        "[host]:80",
        "1.2.3:80",
        "2130706433:80",
        ":80",
        "host:",
        "h\u00f6st",
        "a..\u00f6:80",
        "\u2100.example:80",
        "\uff12\uff11\uff13:80",
        "[fd12::1%eth0]:80",
        "[]:80",
        "[127.0.0.1]:80",
    ],
)
def test_an_entry_that_cannot_be_read_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="allowed address") as caught:
        parse_allow_list(["10.0.0.0/8", entry])
    assert repr(entry) in str(caught.value)


@given(st.text(max_size=40))
def test_an_allow_list_is_read_or_refused_with_a_value_error(entry: str) -> None:
    try:
        parse_allow_list([entry])
    except ValueError as error:
        message = str(error)
    else:
        message = "allowed address"
    assert "allowed address" in message


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "127.0.0.01",
        "256.1.1.1",
        "1.2.3.4.5",
        "127.0.0.1.",
        "a.0x",
        "",
        ".",
        "a..b",
        "a" * 64 + ".com",
        "a." * 127 + "com",
    ],
)
def test_odd_spellings_and_impossible_names_are_no_hosts(host: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical_host(host)


@pytest.mark.parametrize(
    "host", ["photos.example", "photos.example.", "xn--ex-wia.com", "127.0.0.1", "::1", "1password.com", "a-1"]
)
def test_names_and_plain_addresses_are_hosts(host: str) -> None:
    assert canonical_host(host) == host.removesuffix(".")


@given(v4_addresses | v6_addresses)
def test_the_same_address_has_one_key_in_every_spelling(address: ipaddress.IPv6Address) -> None:
    assert canonical_host(address.exploded) == canonical_host(address.compressed.upper()) == str(address)
    if address.version == 6:
        assert canonical_host(f"[{address}]") == str(address)
