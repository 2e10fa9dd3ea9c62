"""Where commands of a cluster go, and what redirections teach: without a server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, ClusterError, MovedError, NoScriptError, TryAgainError

from consumer.redis.cluster import (
    Address,
    Batch,
    Command,
    Owners,
    Route,
    Script,
    checked,
    slot_of,
    to_ask,
    unknown_script,
    url_at,
    without_redirections,
)

A, B, C = Address("10.0.0.1", 7001), Address("10.0.0.2", 7002), Address("10.0.0.3", 7003)
HALVES = [[0, 8191, [b"10.0.0.1", 7001, b"id"]], [8192, 16383, [b"10.0.0.2", 7002, b"id"], [b"10.0.0.3", 7003, b"id"]]]
#: Slots 12182, of B, and 4038, of A.
FOO: Command = ("GET", "foo")
HELLO: Command = ("GET", "hello")


def owners() -> Owners:
    known = Owners()
    known.load(HALVES, A)
    return known


def test_every_slot_belongs_to_the_master_that_was_told() -> None:
    known = owners()
    assert known.uncovered == 0
    assert known.addresses == {A, B}
    assert (known.of(FOO), known.of(("GET", "{foo}.x"))) == (B, B)


@pytest.mark.parametrize("host", [None, b"", b"?", ""])
def test_a_host_that_a_node_does_not_know_is_the_one_that_was_asked(host: bytes | str | None) -> None:
    known = Owners()
    known.load([[0, 16383, [host, 7005, b"id"]]], A)
    assert known.addresses == {Address("10.0.0.1", 7005)}


def test_a_slot_without_an_owner_is_an_outage() -> None:
    known = Owners()
    known.load(HALVES[:1], A)
    assert known.uncovered == 8192
    with pytest.raises(ClusterDownError, match="12182"):
        known.of(FOO)


def test_a_script_goes_where_its_first_key_is() -> None:
    script = Script("write_tags.lua")
    call = script.call(["p:{07}:x", "b:{07}:puma"], ["x"])
    assert slot_of(call) == slot_of(script.spelled_out(call)) == key_slot(b"07")
    assert call[3:] == script.spelled_out(call)[3:]


@given(st.text())
def test_the_slot_is_that_of_the_bytes(key: str) -> None:
    assert slot_of(("GET", key)) == slot_of(("GET", key.encode(errors="surrogateescape")))


def step(batch: Batch, known: Owners, *answers: list[object] | Exception) -> Exception | None:
    return batch.take(batch.routes(known), answers, known)  # type: ignore[arg-type]


def test_commands_of_one_node_share_a_round_trip_and_answers_keep_the_order() -> None:
    known, batch = owners(), Batch([FOO, HELLO, FOO])
    routes = batch.routes(known)
    assert routes == {Route(B, asking=False): [0, 2], Route(A, asking=False): [1]}
    assert batch.take(routes, [[b"1", b"3"], [b"2"]], known) is None
    assert batch.finished
    assert batch.replies == [b"1", b"2", b"3"]


def test_a_moved_slot_is_remembered_and_only_its_commands_are_sent_again() -> None:
    known, batch = owners(), Batch([FOO, HELLO])
    step(batch, known, [MovedError("12182 10.0.0.3:7003")], [b"2"])
    assert not batch.finished
    assert batch.routes(known) == {Route(C, asking=False): [0]}
    assert known.of(FOO) == C
    step(batch, known, [b"1"])
    assert (batch.finished, batch.replies) == (True, [b"1", b"2"])


def test_a_redirection_without_a_host_means_the_same_host() -> None:
    known, batch = owners(), Batch([FOO])
    step(batch, known, [MovedError("12182 :7009")])
    assert known.of(FOO) == Address("10.0.0.2", 7009)


def test_asking_goes_right_before_each_command_and_is_forgotten_after_it() -> None:
    known, batch = owners(), Batch([FOO, FOO])
    step(batch, known, [AskError("12182 10.0.0.9:7009"), AskError("12182 10.0.0.9:7009")])
    (route,) = batch.routes(known)
    assert route == Route(Address("10.0.0.9", 7009), asking=True)
    assert batch.packed(route, [0, 1]) == [("ASKING",), FOO, ("ASKING",), FOO]
    step(batch, known, [b"OK", b"1", b"OK", TryAgainError("split")])
    assert batch.split
    assert batch.replies[0] == b"1"
    assert batch.routes(known) == {Route(B, asking=False): [1]}
    assert known.of(FOO) == B


def test_commands_of_a_lost_connection_have_no_answer_yet() -> None:
    known, batch = owners(), Batch([FOO, HELLO])
    lost = ConnectionError("gone")
    assert step(batch, known, lost, [b"2"]) is lost
    assert batch.routes(known) == {Route(B, asking=False): [0]}


def test_other_errors_are_answers() -> None:
    known, batch = owners(), Batch([FOO])
    step(batch, known, [NoScriptError("no")])
    assert batch.finished
    assert unknown_script(batch.replies) == [0]
    with pytest.raises(NoScriptError):
        checked(batch.replies)


def test_a_cluster_that_was_not_announced_is_named() -> None:
    with pytest.raises(ClusterError, match=r"redis\.cluster"):
        without_redirections([b"1", MovedError("12182 10.0.0.3:7003")])
    assert without_redirections([b"1", NoScriptError("no")])


def test_the_users_own_node_is_asked_last() -> None:
    assert to_ask(Owners()) == [None]
    *known, last = to_ask(owners())
    assert (set(known), last) == ({A, B}, None)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/0", "redis://10.0.0.1:7001/0"),
        ("rediss://user:p%40ss@h/0?protocol=2", "rediss://user:p%40ss@10.0.0.1:7001/0?protocol=2"),
        ("redis://:a@b@h:1", "redis://:a@b@10.0.0.1:7001"),
    ],
)
def test_another_nodes_url_keeps_credentials_and_options(url: str, expected: str) -> None:
    assert url_at(url, A) == expected


def test_an_ipv6_node_is_bracketed() -> None:
    assert url_at("redis://h:1/0", Address("::1", 7001)) == "redis://[::1]:7001/0"
