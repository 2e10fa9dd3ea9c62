"""A host that does not answer holds a share of the places in flight, and a host that answers holds what it needs."""

import asyncio
from collections.abc import Iterable

import pytest

from consumer.fetch.crowd import Crowd
from consumer.fetch.limits import HostLimits
from consumer.fetch.room import Room

SOON_S = 0.02
LIMITS = HostLimits(overdue_s=SOON_S)
#: Within a test nothing becomes late by itself.
CALM = HostLimits(overdue_s=5.0)


class Guest:
    """A fetch."""

    def __init__(self) -> None:
        self.gave_way = False

    def give_way(self) -> None:
        self.gave_way = True


async def entered(crowd: Crowd, rooms: Iterable[Room], *, others: bool = True) -> int:
    """How many fetches, one for each room given, may ask at once or after the short wait."""
    entries = (crowd.enter(room, Guest(), others_answer=lambda: others) for room in rooms)
    return sum(await asyncio.gather(*entries))


def held(rooms: Iterable[Room]) -> int:
    """How many fetches are in flight."""
    return sum(len(room.guests) for room in rooms)


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
    first = Guest()
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
    crowd, silent = Crowd(64, LIMITS, 1_000), [Room() for _ in range(300)]
    await entered(crowd, silent)
    assert held(silent) == 32
    known = Room()
    crowd.answered(known)
    assert await entered(crowd, [known] * 32) == 32


async def test_hosts_that_were_late_leave_a_share_for_hosts_that_may_be_good() -> None:
    crowd = Crowd(64, LIMITS, 1_000)
    hung = [Room(was_late=True) for _ in range(40)]
    assert await entered(crowd, hung * 2) == 24
    assert await entered(crowd, [Room()]) == 1


async def test_a_host_that_falls_silent_is_limited_until_it_answers_again() -> None:
    crowd, room, guests = Crowd(8, LIMITS, 1_000), Room(), [Guest() for _ in range(8)]
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
    crowd, room, hanging = Crowd(8, LIMITS, 1_000), Room(), Guest()
    await crowd.enter(room, hanging, others_answer=lambda: True)
    late(room)
    crowd.answered(room)
    crowd.failed(room, hanging)
    crowd.leave(room, hanging)
    assert room.answers
    quick = Guest()
    await crowd.enter(room, quick, others_answer=lambda: True)
    crowd.failed(room, quick)
    assert room.answers, "a quick failure holds no place"


async def test_thirty_hung_hosts_with_many_photos_leave_a_place_for_the_first_photo_of_a_new_one() -> None:
    crowd = Crowd(64, LIMITS, 1_000)
    hung = [Room() for _ in range(30)]
    assert await entered(crowd, hung * 3) == 30
    assert await entered(crowd, [Room()]) == 1


async def test_a_host_that_ends_no_answer_holds_a_share_of_the_bytes() -> None:
    crowd, room, guests = Crowd(64, LIMITS, 1_000), Room(), [Guest() for _ in range(10)]
    assert [await crowd.may_read(room, guest, 100) for guest in guests].count(True) == 2
    assert await crowd.may_read(Room(), Guest(), 300), "other hosts may read"
    crowd.answered(room)
    assert await crowd.may_read(room, Guest(), 900)


async def in_flight(crowd: Crowd, rooms: Iterable[Room], *, others: bool = True) -> list[Guest]:
    """One fetch for each room given, all of which have a place."""
    guests = []
    for room in rooms:
        guests.append(Guest())
        assert await crowd.enter(room, guests[-1], others_answer=lambda: others)
    return guests


async def given_way(guests: list[Guest], count: int) -> None:
    """Waits until so many gave way, and no more."""
    async with asyncio.timeout(2):
        while sum(guest.gave_way for guest in guests) < count:  # noqa: ASYNC110 - no event is set there
            await asyncio.sleep(0.001)
    await asyncio.sleep(SOON_S)
    assert sum(guest.gave_way for guest in guests) == count


async def test_a_host_that_was_never_asked_gets_the_place_of_the_youngest_late_fetch_and_slow_ones_keep_theirs() -> (
    None
):
    crowd, rooms = Crowd(64, CALM, 1_000), [Room() for _ in range(32)]
    guests = await in_flight(crowd, rooms, others=False)
    for room in rooms:
        late(room)
    async with asyncio.timeout(1):
        for number in range(1, 9):
            assert await crowd.enter(Room(), Guest(), others_answer=lambda: False)
            assert [guest.gave_way for guest in guests] == [False] * (32 - number) + [True] * number
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await crowd.enter(Room(), Guest(), others_answer=lambda: False)


async def test_the_other_photos_of_a_new_host_wait_for_the_answer_to_its_first_one() -> None:
    crowd, silent, new = Crowd(64, CALM, 1_000), [Room() for _ in range(32)], Room()
    await in_flight(crowd, silent, others=False)
    for room in silent:
        late(room)
    waiting = asyncio.create_task(entered(crowd, [new] * 20, others=False))
    async with asyncio.timeout(1):
        while not new.guests:  # noqa: ASYNC110 - no event is set there
            await asyncio.sleep(0.001)
    crowd.answered(new)
    assert await waiting == 20


@pytest.mark.parametrize("others", [True, False])
async def test_a_host_whose_answer_to_each_photo_takes_long_is_not_held_for_one_that_hangs(*, others: bool) -> None:
    crowd, room = Crowd(8, LIMITS, 1_000), Room(usual_s=60.0)
    crowd.answered(room)
    guests = await in_flight(crowd, [room] * 8, others=False)
    room.others_answer = lambda: others
    late(room)
    await asyncio.sleep(2 * SOON_S)
    assert not any(guest.gave_way for guest in guests)


async def test_of_what_hangs_at_a_host_that_answers_others_all_beyond_its_share_gives_way_and_it_is_limited() -> None:
    crowd, room = Crowd(64, LIMITS, 1_000), Room()
    crowd.answered(room)
    guests = await in_flight(crowd, [room] * 64)
    late(room)
    await given_way(guests, 48)
    assert not any(guest.gave_way for guest in guests[:16]), "the oldest may yet be answered"
    assert await entered(crowd, [room]) == 0
    for guest in guests:
        crowd.leave(room, guest)
    assert await entered(crowd, [room] * 20) == 16
    for _ in range(64):
        crowd.answered(room)
    assert await entered(crowd, [room] * 48) == 48


async def test_many_hosts_that_answer_some_photos_leave_half_of_the_places_together() -> None:
    crowd, rooms = Crowd(64, LIMITS, 1_000), [Room() for _ in range(8)]
    for room in rooms:
        crowd.answered(room)
    guests = await in_flight(crowd, rooms * 8)
    for room in rooms:
        late(room)
    await given_way(guests, 32)


async def test_where_no_other_host_answers_what_hangs_has_more_time_and_more_places() -> None:
    crowd, room = Crowd(64, LIMITS, 1_000), Room()
    crowd.answered(room)
    guests = await in_flight(crowd, [room] * 64, others=False)
    room.guests = dict.fromkeys(room.guests, room.guests[guests[0]] - 2 * SOON_S)
    await asyncio.sleep(SOON_S / 2)
    assert not any(guest.gave_way for guest in guests)
    await given_way(guests, 32)
    assert not room.limited


async def test_the_only_host_has_more_time_for_its_first_answer() -> None:
    crowd, room = Crowd(8, HostLimits(overdue_s=0.1), 1_000), Room()
    waiting = asyncio.create_task(entered(crowd, [room] * 8, others=False))
    await asyncio.sleep(0.25)
    crowd.answered(room)
    assert await waiting == 8


async def test_bodies_that_never_end_hold_a_share_of_the_bytes_and_the_photos_behind_them_give_way() -> None:
    crowd, room = Crowd(64, LIMITS, 1_000), Room()
    crowd.answered(room)
    guests = await in_flight(crowd, [room] * 20)
    for guest in guests:
        assert await crowd.may_read(room, guest, 100)
    for guest in guests[10:]:  # these wait for bytes
        crowd.leave(room, guest)
    late(room)
    await given_way(guests, 18)
    assert [guest.gave_way for guest in guests[:3]] == [False, False, True]


async def test_many_hosts_whose_bodies_never_end_leave_half_of_the_bytes() -> None:
    crowd, rooms = Crowd(64, LIMITS, 1_000), [Room() for _ in range(40)]
    read = [await crowd.may_read(room, guest, 100) for room, guest in ((room, Guest()) for room in rooms)]
    assert read.count(True) == 5
    known = Room()
    crowd.answered(known)
    assert await crowd.may_read(known, Guest(), 500)


@pytest.mark.parametrize("places", [1, 2])
async def test_a_new_host_waits_for_a_place_where_there_are_too_few_for_a_reserve(places: int) -> None:
    crowd, first = Crowd(places, CALM, 1_000), Room()
    await in_flight(crowd, [first], others=False)
    second = asyncio.create_task(entered(crowd, [Room()], others=False))
    await asyncio.sleep(SOON_S)
    crowd.answered(first)
    assert await second == 1
