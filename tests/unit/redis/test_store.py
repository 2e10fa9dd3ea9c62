"""What the store makes of the replies of Redis, with a Redis that replies what a test decides."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ResponseError

from consumer.errors import DependencyDown, PhotoRejected
from consumer.events import Brand, Deletion, Quality, Source, Tags
from consumer.redis.schema import bucket, fields_of, index_prefix, names_key, photo_key, quality_key
from consumer.redis.store import Store, Written
from tests.fakes import MOMENT, tags

PREFIX = index_prefix(bucket("photo-1"))
HELD = tags(
    quality=Quality(0.75, 4, good=False),
    brands=(Brand("puma", 0.9), Brand("shell", 0.8)),
    probabilities={"puma": 0.9, "shell": 0.8},
)
GOOD = replace(HELD, quality=Quality(0.75, 4, good=True))
OLD, NEW = "0000000000001.001001.0000000000000", "9999999999998.001001.0000000000000"
DELETION = Deletion("photo-1", HELD.version, HELD.source, MOMENT)
WRONG_TYPE = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


def pairs(decision: Tags | Deletion) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in fields_of(decision).items()}


def listed(decision: Tags | Deletion) -> list[bytes]:
    return [part for pair in pairs(decision).items() for part in pair]


class Link:
    """Gives one list of replies a call, and keeps the commands."""

    def __init__(self, *replies: list[Any]) -> None:
        self._replies = list(replies)
        self.commands: list[Sequence[Any]] = []

    async def run(self, commands: Sequence[Any], _script: object = None) -> list[Any]:
        self.commands.append(commands)
        return self._replies.pop(0)


def over(*replies: list[Any]) -> tuple[Store, Link]:
    store, link = Store("redis://127.0.0.1:1/0", timeout_s=1.0), Link(*replies)
    store._redis = link  # type: ignore[assignment]
    return store, link


@pytest.mark.parametrize(("options", "cluster"), [({}, False), ({"cluster": False}, False), ({"cluster": True}, True)])
def test_a_store_talks_to_one_server_unless_it_is_told_of_a_cluster(options: dict[str, bool], cluster: bool) -> None:
    assert Store("redis://127.0.0.1:1/0", timeout_s=1.0, **options)._redis._cluster == cluster


def keys_of(call: Sequence[Any]) -> list[str | bytes]:
    return list(call[3 : 3 + call[2]])


LIKE = replace(HELD, probabilities={"other": 0.5})
ELSEWHERE = replace(HELD.source, offset=HELD.source.offset + 5)


@pytest.mark.parametrize(
    ("decision", "present", "scores", "difference"),
    [
        (HELD, pairs(HELD), (HELD.quality.score, HELD.quality.score), None),
        (HELD, pairs(HELD), (HELD.quality.score, None), "not indexed"),
        (HELD, pairs(HELD), (0.001, HELD.quality.score), "not indexed"),
        (HELD, pairs(HELD), (WRONG_TYPE, HELD.quality.score), "wrong type"),
        (HELD, WRONG_TYPE, (None, None), "wrong type"),
        (HELD, {}, (None, None), "missing"),
        (HELD, {b"ver": b"x"}, (None, None), "unreadable"),
        (HELD, {b"\xff": b"\xff"}, (None, None), "unreadable"),
        (HELD, pairs(replace(HELD, version=NEW)), (None, None), None),
        (HELD, pairs(replace(HELD, version=OLD)), (None, None), "older"),
        (HELD, pairs(replace(HELD, quality=Quality(0.1, 1, good=False))), (None, None), "different"),
        (HELD, pairs(replace(HELD, source=ELSEWHERE)), (None, None), None),
        (replace(HELD, source=ELSEWHERE), pairs(HELD), (None, None), "older"),
        (HELD, pairs(replace(HELD, source=Source("other", 0, 99))), (None, None), "different"),
        (DELETION, pairs(DELETION), (), None),
        (replace(HELD, tagged_at=MOMENT), pairs(HELD), (0.75, 0.75), None),
        (HELD, {**pairs(HELD), b"t": b"2026-11-21T10:15:00.123Z"}, (0.75, 0.75), None),
        (HELD, {**pairs(HELD), b"t": b"2026-11-21T10:15:00.123Z"}, (0.75, None), "not indexed"),
        (HELD, {**pairs(HELD), b"t": b"2026-11-21T10:15:01.000Z"}, (0.75, 0.75), "different"),
        (HELD, {**pairs(HELD), b"t": b"2026-11-21T10:15:00+05:00"}, (0.75, 0.75), "different"),
        (DELETION, pairs(HELD), (), "different"),
        (replace(HELD, brands=()), pairs(replace(HELD, brands=())), (), None),
        (GOOD, pairs(GOOD), (0.75, 0.75, 0.75), None),
        (GOOD, pairs(GOOD), (0.75, 0.75, None), "not indexed"),
        (GOOD, pairs(GOOD), (0.75, 0.75, WRONG_TYPE), "wrong type"),
    ],
)
async def test_what_redis_lacks_of_a_decision_is_named(
    decision: Tags | Deletion, present: Any, scores: tuple[Any, ...], difference: str | None
) -> None:
    store, link = over([pairs(LIKE), 0.0, 0.0, present, *scores, pairs(LIKE), HELD.quality.score, HELD.quality.score])
    assert await store.differences([HELD, decision, HELD]) == ["not indexed", difference, None]
    brands = decision.brands if isinstance(decision, Tags) else ()
    indexes = [PREFIX + each.brand for each in brands] + ([quality_key(bucket("photo-1"))] if decision is GOOD else [])
    asked = [("HGETALL", photo_key("photo-1")), *(("ZSCORE", index, "photo-1") for index in indexes)]
    assert link.commands[0][3 : 3 + len(asked)] == asked


@pytest.mark.parametrize(
    ("now", "newer"),
    [
        (replace(HELD, version=NEW), True),
        (replace(HELD, source=ELSEWHERE), True),
        (replace(DELETION, version=NEW), True),
        (replace(HELD, version=OLD), False),
        (replace(HELD, source=Source("other", 0, 99)), False),
        (DELETION, False),
    ],
)
async def test_only_what_supersedes_a_decision_is_newer(now: Tags | Deletion, newer: bool) -> None:
    store, link = over([[pairs(now)[b"ver"], pairs(now)[b"src"]]], [pairs(now)])
    assert await store.newer(HELD) == (now if newer else None)
    assert link.commands[0] == [("HMGET", photo_key("photo-1"), "ver", "src")]


@pytest.mark.parametrize("reply", [WRONG_TYPE, [HELD.version.encode(), b"photo-uploads/2/7"]])
async def test_what_is_the_same_or_somebody_elses_takes_one_question(reply: Any) -> None:
    store, link = over([reply])
    assert await store.newer(replace(HELD, source=Source("photo-uploads", 2, 7))) is None
    assert len(link.commands) == 1


@pytest.mark.parametrize(("reply", "held"), [(WRONG_TYPE, None), ({}, None), (pairs(DELETION), DELETION)])
async def test_what_is_in_force_is_what_can_be_read(reply: Any, held: Deletion | None) -> None:
    store, _ = over([reply])
    assert await store.in_force("photo-1") == held


@pytest.mark.parametrize(
    ("change", "whose"),
    [
        ({}, "the decision's"),
        ({"tagged_at": MOMENT.replace(year=2025, microsecond=0)}, "the decision's"),
        ({"source": ELSEWHERE}, "the decision's"),
        ({"quality": Quality(0.1, 1, good=False)}, "the decision's"),
        ({"quality": Quality(0.1, 1, good=False), "source": ELSEWHERE}, "those of the brands"),
        ({"models": {"photo_quality": "77"}, "source": ELSEWHERE}, "those of the brands"),
    ],
)
async def test_the_probabilities_in_force_are_those_of_the_same_record_or_of_the_same_decision(
    change: dict[str, Any], whose: str
) -> None:
    decision, held = LIKE, replace(HELD, **change)
    store, link = over([[b"unchanged", listed(held)]])
    expected = decision.probabilities if whose == "the decision's" else HELD.probabilities
    assert await store.write(decision) == Written("unchanged", replace(held, probabilities=expected))
    assert link.commands[0][0][-2 * len(fields_of(decision)) :] == tuple(
        part for pair in fields_of(decision).items() for part in pair
    )


async def test_what_was_written_is_in_force_and_a_deletion_has_no_probabilities() -> None:
    store, _ = over([[b"written", listed(LIKE)]], [[b"superseded", listed(replace(DELETION, version=NEW))]])
    assert await store.write(LIKE) == Written("written", LIKE)
    assert await store.write(LIKE) == Written("superseded", replace(DELETION, version=NEW))


async def test_a_hash_that_cannot_be_read_is_restored_unless_it_is_of_a_newer_version() -> None:
    unreadable = [b"ver", b"x"]
    store, link = over([[b"unchanged", unreadable]], [[b"mended", listed(HELD)]], [[b"superseded", unreadable]])
    assert await store.write(HELD) == Written("mended", HELD)
    assert [commands[0][3 + commands[0][2] + 2] for commands in link.commands] == ["keep", "restore"]
    assert await store.write(HELD) == Written("superseded", None)
    assert len(link.commands) == 3


async def test_the_script_is_called_again_for_those_alone_whose_brands_only_redis_knows() -> None:
    first = [[b"written", []], [b"undeclared", b"i1", b"i2"], [b"unchanged", []], [b"undeclared", b"i3"]]
    store, link = over(first, [[b"undeclared", b"i4"], [b"mended", []]], [[b"superseded", []]])
    outcomes = await store.write_all([HELD, DELETION, HELD, HELD])
    assert outcomes == ["written", "superseded", "unchanged", "mended"]
    kept = [photo_key("photo-1")]
    declared = [*kept, PREFIX + "puma", PREFIX + "shell", names_key(bucket("photo-1"))]
    assert [[keys_of(call) for call in commands] for commands in link.commands] == [
        [declared, kept, declared, declared],
        [[*kept, b"i1", b"i2"], [*declared, b"i3"]],
        [[*kept, b"i1", b"i2", b"i4"]],
    ]


async def test_a_script_that_asks_for_ever_is_an_outage() -> None:
    store, link = over(*[[[b"undeclared", b"i"]]] * 30)
    with pytest.raises(DependencyDown, match="20 times"):
        await store.write(HELD)
    assert len(link.commands) == 20


async def test_another_programs_key_is_the_photos_fault_and_is_named() -> None:
    wrong = [b"wrong type", b"p:\xff", b"string"]
    store, _ = over([wrong], [[b"written", []], wrong])
    with pytest.raises(PhotoRejected, match="is a string") as refused:
        await store.write(HELD)
    assert refused.value.reason == "redis_key"
    assert await store.write_all([HELD, HELD]) == ["written", "wrong type"]


@pytest.mark.parametrize(
    "answer",
    [[b"gone", []], [b"written", [b"ver"]], [b"written", [b"ver", None]], [b"written"], [b"wrong type", b"k"], []],
)
async def test_an_answer_of_another_form_is_an_outage(answer: list[Any]) -> None:
    store, _ = over([answer or [b""]])
    with pytest.raises(DependencyDown, match="the script answered"):
        await store.write(HELD)
