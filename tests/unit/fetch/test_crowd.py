"""A host that does not answer holds a share of the places in flight, and a host that answers holds what it needs."""

import asyncio
from collections.abc import Iterable
from itertools import count

import pytest

from consumer.fetch.crowd import Crowd, Room
from consumer.fetch.limits import HostLimits

SOON_S = 0.02
LIMITS = HostLimits(overdue_s=SOON_S)
GUESTS = count()


async def entered(crowd: Crowd, rooms: Iterable[Room], *, others: bool = True) -> int:
    """How many fetches, one for each room given, may ask at once or after the short wait."""
    entries = (crowd.enter(room, next(GUESTS), others_answer=lambda: others) for room in rooms)
    return sum(await asyncio.gather(*entries))


def late(room: Room) -> None:
    """Makes the fetches in flight late."""
    for guest in room.guests:
        room.guests[guest] -= 10.0
    room.answered_s -= 10.1


@pytest.mark.parametrize(("places", "share"), [(64, 16), (16, 4), (4, 1), (1, 1), (16_384, 4_096)])
async def test_a_host_that_says_nothing_holds_a_quarter_of_the_places_and_at_least_one(places: int, share: int) -> None:
    assert await entered(Crowd(places, LIMITS, 1_000), [Room()] * (share + 10)) == share


async def test_a_host_that_answers_gets_all_places_as_soon_as_it_does() -> None:
    crowd, room = Crowd(64, HostLimits(overdue_s=5.0), 1_000), Room()
    assert await entered(crowd, [room] * 16) == 16
    waiting = asyncio.create_task(entered(crowd, [room] * 48))
    await asyncio.sleep(0)
    crowd.answered(room)
    assert await waiting == 48


async def test_a_slow_host_that_answers_keeps_all_places_where_no_other_host_needs_them() -> None:
    crowd, room = Crowd(8, LIMITS, 1_000), Room()
    crowd.answered(room)
    assert await entered(crowd, [room] * 4) == 4
    late(room)
    assert await entered(crowd, [room], others=False) == 1
    assert await entered(crowd, [room]) == 0, "half is left to others"


async def test_a_place_that_becomes_free_goes_to_the_next_and_what_comes_too_late_is_sent_away_at_once() -> None:
    crowd, room = Crowd(4, HostLimits(overdue_s=0.2), 1_000), Room()
    first = object()
    assert await crowd.enter(room, first, others_answer=lambda: True)
    second = asyncio.create_task(entered(crowd, [room]))
    await asyncio.sleep(0)
    crowd.leave(room, first)
    crowd.leave(room, first)
    assert await second == 1
    late(room)
    async with asyncio.timeout(0.1):
        assert await entered(crowd, [room] * 50) == 0


async def test_many_silent_hosts_together_leave_places_for_hosts_that_answer() -> None:
    crowd = Crowd(64, LIMITS, 1_000)
    assert await entered(crowd, [Room() for _ in range(300)]) == 32
    known = Room()
    crowd.answered(known)
    assert await entered(crowd, [known] * 32) == 32


async def test_hosts_that_were_late_leave_a_share_for_hosts_that_may_be_good() -> None:
    crowd = Crowd(64, LIMITS, 1_000)
    hung = [Room(was_late=True) for _ in range(40)]
    assert await entered(crowd, hung * 2) == 24
    assert await entered(crowd, [Room()]) == 1


async def test_a_host_that_falls_silent_is_limited_until_it_answers_again() -> None:
    crowd, room, guests = Crowd(8, LIMITS, 1_000), Room(), [object() for _ in range(8)]
    crowd.answered(room)
    for guest in guests:
        assert await crowd.enter(room, guest, others_answer=lambda: True)
    late(room)
    for guest in guests:
        crowd.failed(room, guest)
        crowd.leave(room, guest)
    assert await entered(crowd, [room] * 8) == 2
    crowd.answered(room)
    assert await entered(crowd, [room] * 5) == 5


async def test_a_photo_that_hangs_at_a_host_that_answers_for_others_does_not_limit_it() -> None:
    crowd, room, hanging = Crowd(8, LIMITS, 1_000), Room(), object()
    await crowd.enter(room, hanging, others_answer=lambda: True)
    late(room)
    crowd.answered(room)
    crowd.failed(room, hanging)
    crowd.leave(room, hanging)
    assert room.answers
    quick = object()
    await crowd.enter(room, quick, others_answer=lambda: True)
    crowd.failed(room, quick)
    assert room.answers, "a quick failure holds no place"


async def test_thirty_hung_hosts_with_many_photos_leave_a_place_for_the_first_photo_of_a_new_one() -> None:
    crowd = Crowd(64, LIMITS, 1_000)
    hung = [Room() for _ in range(30)]
    assert await entered(crowd, hung * 3) == 30
    assert await entered(crowd, [Room()]) == 1


async def test_a_host_that_ends_no_answer_holds_a_share_of_the_bytes() -> None:
    crowd, room, guests = Crowd(64, LIMITS, 1_000), Room(), [object() for _ in range(10)]
    assert [await crowd.may_read(room, guest, 100) for guest in guests].count(True) == 2
    assert await crowd.may_read(Room(), guests[0], 900), "one photo may always be read"
    crowd.answered(room)
    assert await crowd.may_read(room, object(), 900)
