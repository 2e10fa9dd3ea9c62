"""What goes to which node and what the answers teach: operations whose steps a script answers, without a server."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    RedisError,
    TryAgainError,
)

from consumer.redis.cluster import ROUNDS, SPLIT_WAIT_S, Cluster, Server, owners_of, settled, url_at
from consumer.redis.commands import (
    Address,
    Answer,
    Command,
    Exclusive,
    Forget,
    Operation,
    Request,
    Script,
    Step,
    T,
    Wait,
    slot_of,
)

A, B, C = Address("10.0.0.1", 7001), Address("10.0.0.2", 7002), Address("10.0.0.3", 7003)
SEED = Address("seed", 6379)
HALVES = [[0, 8191, [b"10.0.0.1", 7001, b"id"]], [8192, 16383, [b"10.0.0.2", 7002, b"id"], [b"10.0.0.3", 7003, b"id"]]]
#: Slots 12182, of B, and 4038, of A.
FOO: Command = ("GET", "foo")
HELLO: Command = ("GET", "hello")
SLOTS: Command = ("CLUSTER", "SLOTS")
MOVED_TO_C = MovedError("12182 10.0.0.3:7003")
LOST = ConnectionError("gone")

Reply = Callable[[Address | None, Command], object]


class Nodes:
    """A link whose nodes reply as `reply` says; a reply that is an OSError is a lost connection.

    `sent` holds the requests, a list for each step, without those for the slots, which are answered by `slots`; `heard`
    what came of each command, one reply or failure for each time that it was sent.
    """

    def __init__(self, reply: Reply, slots: Sequence[object] = (HALVES,)) -> None:
        self.reply = reply
        self.slots = cycle(slots)
        self.sent: list[list[Request]] = []
        self.asked: list[Address | None] = []
        self.others: list[Step] = []
        self.heard: dict[Command, list[Any]] = defaultdict(list)

    def drive(self, operation: Operation[T]) -> T:
        try:
            step = next(operation)
            while True:
                step = operation.send(self._result(step))
        except StopIteration as end:
            value: T = end.value
            return value

    def _result(self, step: Step) -> list[Answer] | None:
        match step:
            case [(node, [("CLUSTER", "SLOTS")])]:
                self.asked.append(node)
                slots = next(self.slots)
                return [slots if isinstance(slots, OSError) else [slots]]
            case Exclusive(operation):
                self.drive(operation)
            case Wait() | Forget():
                self.others.append(step)
            case requests:
                self.sent.append(requests)
                return [self._answer(*request) for request in requests]
        return None

    def _answer(self, node: Address | None, commands: Sequence[Command]) -> Answer:
        replies = [b"OK" if command == ("ASKING",) else self.reply(node, command) for command in commands]
        lost = next((reply for reply in replies if isinstance(reply, OSError)), None)
        for command, reply in zip(commands, replies, strict=True):
            self.heard[command].append(reply if lost is None else lost)
        return replies if lost is None else lost


def answers(*rounds: dict[Command, object]) -> Reply:
    """What commands get the first, second... time; the last one stays."""
    left = {command: [each[command] for each in rounds if command in each] for each in rounds for command in each}

    def reply(_: Address | None, command: Command) -> object:
        replies = left[command]
        return replies.pop(0) if len(replies) > 1 else replies[0]

    return reply


def echo(_: Address | None, command: Command) -> object:
    return command[1]


def test_every_slot_belongs_to_the_master_that_was_told() -> None:
    owners = owners_of(HALVES, SEED)
    assert owners.keys() == set(range(16384))
    assert set(owners.values()) == {A, B}
    assert [owners[slot_of(command)] for command in (FOO, ("GET", "{foo}.x"))] == [B, B]


@pytest.mark.parametrize("host", [None, b"", b"?", ""])
def test_a_host_that_a_node_does_not_know_is_the_one_that_was_asked(host: bytes | str | None) -> None:
    assert set(owners_of([[0, 16383, [host, 7005, b"id"]]], A).values()) == {Address("10.0.0.1", 7005)}


def test_a_slot_without_an_owner_is_an_outage_until_a_node_names_one() -> None:
    nodes, cluster = Nodes(echo, [HALVES[:1], HALVES[:1], HALVES]), Cluster(SEED)
    with pytest.raises(ClusterDownError, match="8192 slots"):
        nodes.drive(cluster.ping())
    assert nodes.drive(cluster.run([HELLO])) == ["hello"]
    with pytest.raises(ClusterDownError, match="12182"):
        nodes.drive(cluster.run([FOO]))
    with pytest.raises(ClusterDownError, match="12182"):
        nodes.drive(cluster.run([FOO]))
    assert nodes.drive(cluster.run([FOO])) == ["foo"]


def test_a_ping_asks_for_the_slots_and_reaches_every_master() -> None:
    nodes, cluster = Nodes(lambda *_: True), Cluster(SEED)
    nodes.drive(cluster.ping())
    nodes.drive(cluster.ping())
    assert len(nodes.asked) == 2
    assert {node for node, _ in nodes.sent[-1]} == {A, B}
    nodes.reply = lambda node, _: LOST if node == A else True
    with pytest.raises(ConnectionError, match="gone"):
        nodes.drive(cluster.ping())


def test_a_script_goes_where_its_first_key_is() -> None:
    script = Script("write_tags.lua")
    call = script.call(["p:{07}:x", "b:{07}:puma"], ["x"])
    assert slot_of(call) == slot_of(script.spelled_out(call)) == key_slot(b"07")
    assert call[3:] == script.spelled_out(call)[3:]


@given(st.text())
def test_the_slot_is_that_of_the_bytes(key: str) -> None:
    assert slot_of(("GET", key)) == slot_of(("GET", key.encode(errors="surrogateescape")))


def test_commands_of_one_node_share_a_round_trip_and_answers_keep_the_order() -> None:
    nodes, bar = Nodes(echo), ("GET", "{foo}2")
    assert nodes.drive(Cluster(SEED).run([FOO, HELLO, bar])) == ["foo", "hello", "{foo}2"]
    assert nodes.sent == [[(B, [FOO, bar]), (A, [HELLO])]]


def test_nothing_is_sent_where_there_is_nothing_to_send() -> None:
    nodes = Nodes(echo)
    assert nodes.drive(Cluster(SEED).run([])) == nodes.drive(Server().run([])) == []
    assert nodes.sent == nodes.asked == []


def test_a_moved_slot_is_remembered_and_only_its_commands_are_sent_again() -> None:
    nodes, cluster = Nodes(answers({FOO: MOVED_TO_C, HELLO: b"2"}, {FOO: b"1"})), Cluster(SEED)
    assert nodes.drive(cluster.run([FOO, HELLO])) == [b"1", b"2"]
    assert nodes.sent[1:] == [[(C, [FOO])]]
    assert nodes.drive(cluster.run([FOO])) == [b"1"]
    assert nodes.sent[2:] == [[(C, [FOO])]]
    assert nodes.asked == [None]


def test_a_redirection_without_a_host_means_the_same_host() -> None:
    nodes = Nodes(answers({FOO: MovedError("12182 :7009")}, {FOO: b"1"}))
    assert nodes.drive(Cluster(SEED).run([FOO])) == [b"1"]
    assert nodes.sent[1:] == [[(Address("10.0.0.2", 7009), [FOO])]]


def test_asking_goes_right_before_each_command_and_is_forgotten_after_it() -> None:
    bar, ask = ("GET", "{foo}2"), AskError("12182 10.0.0.9:7009")
    nodes = Nodes(answers({FOO: ask, bar: ask}, {FOO: b"1", bar: TryAgainError("split")}, {bar: b"2"}))
    assert nodes.drive(Cluster(SEED).run([FOO, bar])) == [b"1", b"2"]
    joining = Address("10.0.0.9", 7009)
    assert nodes.sent[1:] == [[(joining, [("ASKING",), FOO, ("ASKING",), bar])], [(B, [bar])]]
    assert nodes.others == [Forget(set()), Wait(SPLIT_WAIT_S)]


def test_a_command_that_asks_shares_a_round_trip_with_others_of_that_node() -> None:
    nodes = Nodes(
        answers({FOO: AskError("12182 10.0.0.1:7001"), HELLO: MovedError("4038 :7001")}, {FOO: b"1", HELLO: b"2"})
    )
    assert nodes.drive(Cluster(SEED).run([FOO, HELLO])) == [b"1", b"2"]
    assert nodes.sent[1:] == [[(A, [("ASKING",), FOO, HELLO])]]


def test_only_the_commands_of_a_lost_connection_are_sent_again_after_the_slots_were_asked_for() -> None:
    moved = [[0, 16383, [b"10.0.0.1", 7001, b"id"]]]
    nodes, cluster = Nodes(lambda node, command: LOST if node == B else command[1], [HALVES, moved]), Cluster(SEED)
    assert nodes.drive(cluster.run([FOO, HELLO])) == ["foo", "hello"]
    assert nodes.sent[1:] == [[(A, [FOO])]]
    assert len(nodes.asked) == 2
    assert nodes.others == [Forget(set()), Forget({B})]


def test_a_connection_lost_twice_is_the_failure() -> None:
    nodes = Nodes(answers({FOO: LOST, HELLO: OutOfMemoryError("full")}))
    with pytest.raises(ConnectionError, match="gone"):
        nodes.drive(Cluster(SEED).run([HELLO, FOO]))
    assert len(nodes.sent) == 2


def test_a_connection_lost_in_the_last_round_is_the_failure() -> None:
    nodes = Nodes(answers(*[{FOO: MOVED_TO_C}] * (ROUNDS - 1), {FOO: LOST}))
    with pytest.raises(ConnectionError, match="gone"):
        nodes.drive(Cluster(SEED).run([FOO]))


def test_only_replies_without_an_error_are_settled() -> None:
    assert settled([[b"1", None]]) == [b"1", None]
    assert settled([[b"1", NoScriptError("no")]]) is None
    assert settled([LOST]) is None


def test_other_errors_are_answers() -> None:
    nodes = Nodes(answers({FOO: OutOfMemoryError("full"), HELLO: NoScriptError("no")}))
    with pytest.raises(OutOfMemoryError):
        nodes.drive(Cluster(SEED).run([FOO, HELLO]))
    with pytest.raises(NoScriptError):
        nodes.drive(Server().run([HELLO, FOO]))
    assert len(nodes.sent) == 2


def test_after_a_cluster_is_down_the_slots_are_asked_for_again() -> None:
    nodes, cluster = Nodes(answers({FOO: ClusterDownError("down")}, {FOO: b"1"})), Cluster(SEED)
    with pytest.raises(ClusterDownError):
        nodes.drive(cluster.run([FOO]))
    assert nodes.drive(cluster.run([FOO])) == [b"1"]
    assert len(nodes.asked) == 2


def test_a_cluster_that_was_not_announced_is_named() -> None:
    with pytest.raises(ClusterError, match=r"redis\.cluster"):
        Nodes(answers({HELLO: b"1", FOO: MOVED_TO_C})).drive(Server().run([HELLO, FOO]))


def test_the_users_own_node_is_asked_last_and_its_failure_is_told() -> None:
    nodes, cluster = Nodes(echo), Cluster(SEED)
    assert nodes.drive(cluster.masters()) == nodes.drive(cluster.masters())
    assert nodes.asked == [None]
    nodes.slots = iter([OSError("one"), OSError("two"), OSError("three"), HALVES])  # type: ignore[assignment]
    with pytest.raises(OSError, match="three"):
        nodes.drive(cluster.ping())
    *known, last = nodes.asked[1:]
    assert (set(known), last) == ({A, B}, None)
    assert nodes.drive(cluster.run([FOO])) == ["foo"]


def test_callers_that_waited_for_the_slots_do_not_ask_again() -> None:
    nodes, cluster = Nodes(echo), Cluster(SEED)
    first, second = cluster.run([FOO]), cluster.run([HELLO])
    waiting = [next(first), next(second)]
    for step in waiting:
        assert isinstance(step, Exclusive)
        nodes.drive(step.operation)
    assert nodes.asked == [None]
    assert next(first) == [(B, [FOO])]
    assert next(second) == [(A, [HELLO])]


def scripted(unknown_at: set[Address | None]) -> tuple[Reply, list[tuple[Address | None, Command]]]:
    """Nodes, some of which do not know the script before they are sent it, and what is sent to whom."""
    calls: list[tuple[Address | None, Command]] = []

    def reply(node: Address | None, command: Command) -> object:
        calls.append((node, command))
        if command[0] == "EVAL":
            unknown_at.discard(node)
        elif node in unknown_at:
            return NoScriptError("no")
        return [node, command[3]]

    return reply, calls


@given(st.lists(st.sampled_from(["foo", "hello", "{foo}2", "{hello}2"])), st.sets(st.sampled_from([A, B])))
def test_a_script_is_sent_only_to_the_nodes_that_do_not_know_it(
    keys: list[str], unknown_at: set[Address | None]
) -> None:
    script, unaware = Script("sweep.lua"), set(unknown_at)
    reply, calls = scripted(unaware)
    commands = [script.call([key], []) for key in keys]
    owners = [B if "foo" in key else A for key in keys]
    assert Nodes(reply).drive(Cluster(SEED).run(commands, script)) == [
        list(each) for each in zip(owners, keys, strict=True)
    ]
    sent = [(node, command[3]) for node, command in calls if command[0] == "EVAL"]
    assert sorted(sent) == sorted((owner, key) for owner, key in zip(owners, keys, strict=True) if owner in unknown_at)
    assert len([command for _, command in calls if command[0] == "EVALSHA"]) == len(keys)


def test_a_script_that_one_server_does_not_know_is_sent_to_it() -> None:
    script = Script("sweep.lua")
    reply, calls = scripted({None})
    nodes, server, call = Nodes(reply), Server(), script.call(["k"], ["a"])
    for _ in range(2):
        assert nodes.drive(server.run([call], script)) == [[None, "k"]]
    assert [command for _, command in calls] == [call, script.spelled_out(call), call]


def outcome_of(nodes: Nodes, commands: Sequence[Command]) -> list[Any] | Exception:
    try:
        return nodes.drive(Cluster(SEED).run(commands))
    except (RedisError, OSError) as error:
        return error


def said(word: str, command: Command) -> object:
    """A fresh reply."""
    place = f"{slot_of(command)} 10.0.0.{len(word)}:7001"
    replies: dict[str, object] = {
        "ok": command[1],
        "full": OutOfMemoryError("full"),
        "down": ClusterDownError("down"),
        "split": TryAgainError("split"),
        "lost": ConnectionError("gone"),
        "ask": AskError(place),
    }
    return replies[word] if word in replies else MovedError(place)


WORDS = st.sampled_from(["ok", "full", "down", "split", "lost", "ask", "moved here", "moved there"])


@settings(max_examples=500)
@given(st.tuples(st.lists(WORDS, min_size=1), st.lists(WORDS, min_size=1)))
@example((["ask", "ok"], ["ask", "lost"]))
def test_whatever_nodes_say_it_ends_in_time_with_the_replies_or_the_error(words: tuple[list[str], list[str]]) -> None:
    commands = [FOO, HELLO]
    left = {command: iter([*each, *[each[-1]] * ROUNDS]) for command, each in zip(commands, words, strict=True)}
    nodes = Nodes(lambda _, command: said(next(left[command]), command))
    outcome = outcome_of(nodes, commands)
    heard = [nodes.heard[command] for command in commands]
    assert len(nodes.sent) <= ROUNDS
    # What is final is not sent again.
    finals = (str, OutOfMemoryError, ClusterDownError)
    assert not any(isinstance(each, finals) for replies in heard for each in replies[:-1])
    last = [replies[-1] for replies in heard]
    failures = [each for each in last if isinstance(each, Exception)]
    if not failures:
        assert outcome == ["foo", "hello"]
    elif len(nodes.sent) < ROUNDS and any(isinstance(each, OSError) for each in failures):
        # A connection was lost for the second time: that ends it, whatever the others say.
        assert isinstance(outcome, OSError)
        assert outcome in failures
    else:
        assert outcome in failures
    if len(nodes.sent) < ROUNDS and not any(isinstance(each, OSError) for each in failures):
        assert all(isinstance(each, finals) for each in last)


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
    assert url_at(url, None) == url


def test_an_ipv6_node_is_bracketed() -> None:
    assert url_at("redis://h:1/0", Address("::1", 7001)) == "redis://[::1]:7001/0"
