"""Photos with transient failures wait in the retry topic, beside the live ones; too many dead letters stop all."""

from datetime import UTC, datetime
from typing import Any

from consumer import events
from consumer.events import Source
from consumer.kafka.headers import RETRY_HEADERS, retry_headers
from consumer.reader import TagReader
from consumer.resilience import Deferral
from consumer.settings import Settings
from tests.harness import BLUE, RED, World, by_key, eventually, headers_of


def changed(settings: Settings, section: str, **values: Any) -> Settings:
    """The same settings with some values of one section changed."""
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


async def test_a_photo_whose_host_is_down_for_a_while_is_tagged_later_and_delays_nobody(world: World) -> None:
    world.photos.answers.update({"late": 503, "fine": BLUE})
    world.upload("late")
    for number in range(20):
        world.upload(f"fine{number}", "fine")
    patient = changed(changed(world.settings, "retry", rounds=100), "service", max_in_flight=2)
    async with world.service(patient) as service:
        await eventually(lambda: service.outcomes().get("tagged") == 20 and service.outcomes().get("deferred"))
        assert by_key(world.waiting()).keys() == {"late"}
        world.photos.answers["late"] = RED
        await eventually(lambda: service.outcomes().get("tagged") == 21)
    assert world.dead() == []
    uploaded = by_key(world.read(world.settings.kafka.uploads_topic))["late"]
    first = Source(uploaded.topic(), uploaded.partition(), uploaded.offset())
    with TagReader(world.settings.redis.url) as reader:
        found = reader.get("late")
    assert found is not None
    assert found.source == first
    assert headers_of(by_key(world.tags())["late"])["ce_id"] == events.format_source(first)


async def test_an_upload_whose_headers_look_like_those_of_a_wait_is_not_believed(world: World) -> None:
    world.photos.answers["copied"] = RED
    value = events.encode(events.PhotoUploaded("copied", f"{world.photos.url}/copied", datetime.now(UTC)))
    elsewhere = Deferral("http_5xx", "busy", 99, 99, datetime(9998, 1, 1, tzinfo=UTC), Source("elsewhere", 7, 99))
    headers = dict(retry_headers((), elsewhere))
    world.send("copied", value, events.UPLOADED, headers={name: text or b"" for name, text in headers.items()})
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == {"tagged": 1})
    (tagged,) = world.tags()
    assert events.decode_tags(tagged.value()).source.topic == world.settings.kafka.uploads_topic


async def test_after_the_last_round_the_dead_letter_has_all_attempts_and_what_was_sent(world: World) -> None:
    world.photos.answers["down"] = 503
    value = events.encode(events.PhotoUploaded("down", f"{world.photos.url}/down", datetime.now(UTC)))
    world.send("down", value, events.UPLOADED, headers={"reason": b"of the sender", "traceparent": b"00-aa-bb-01"})
    two_rounds = changed(world.settings, "retry", rounds=2, delays_s=(0.1,))
    async with world.service(two_rounds) as service:
        await eventually(lambda: service.outcomes() == {"deferred": 2, "dead_lettered": 1})
    (uploaded,) = world.read(world.settings.kafka.uploads_topic)
    (letter,) = world.dead()
    sent = uploaded.headers()
    for moved in (*world.waiting(), letter):
        assert (moved.key(), moved.value()) == (b"down", value)
        assert moved.headers()[: len(sent)] == sent
        said = headers_of(moved)
        assert said["original_topic"] == uploaded.topic()
        assert (said["original_partition"], said["original_offset"]) == (str(uploaded.partition()), "0")
        assert said["reason"] == "http_5xx"
    rounds = sorted(world.waiting(), key=lambda message: headers_of(message)["round"])
    assert [(headers_of(message)["round"], headers_of(message)["attempt"]) for message in rounds] == [
        ("1", "2"),
        ("2", "4"),
    ]
    assert all(len(message.headers()) == len(sent) + len(RETRY_HEADERS) for message in rounds)
    assert headers_of(letter)["attempt"] == "6"
    assert len(world.photos.requests) == 6


async def test_a_photo_that_appears_or_is_whole_only_after_its_event_is_tagged(world: World) -> None:
    world.photos.answers.update({"half": RED[: len(RED) // 2], "broken": BLUE[: len(BLUE) // 2]})
    for name in ("unseen", "half", "broken"):
        world.upload(name)
    graceful = changed(world.settings, "fetch", not_found_grace_s=600.0)
    # Longer than all three need to get there, on a busy machine too.
    slow = changed(graceful, "retry", delays_s=(6.0,))
    async with world.service(slow) as service:
        await eventually(lambda: service.outcomes().get("deferred") == 3)
        world.photos.answers.update({"unseen": RED, "half": RED})
        await eventually(lambda: service.outcomes() == {"deferred": 3, "tagged": 2, "dead_lettered": 1})
    assert {key: headers_of(letter)["reason"] for key, letter in by_key(world.dead()).items()} == {
        "broken": "corrupt_image"
    }
    assert world.photos.requests.count("broken") == 2


async def test_what_sleeps_delays_neither_live_photos_nor_the_stop_and_the_next_run_takes_it_up(world: World) -> None:
    world.photos.answers.update({"down": 503, "fine": BLUE})
    sleepy = changed(changed(world.settings, "retry", delays_s=(15.0,)), "service", max_in_flight=2)
    async with world.service(sleepy) as service:
        for number in range(8):
            world.upload(f"down{number}", "down")
        await eventually(lambda: service.outcomes() == {"deferred": 8})
        for number in range(8):
            world.upload(f"fine{number}", "fine")
        await eventually(lambda: service.outcomes() == {"deferred": 8, "tagged": 8})
    assert world.events_logged("service.drain_timed_out") == []
    assert len(world.photos.requests) <= 2 * 8 + 8, "a record was tried before its time"
    assert sum(world.committed().values()) == 16
    world.photos.answers["down"] = RED
    async with world.service(sleepy) as service:
        await eventually(lambda: service.outcomes() == {"tagged": 8})
    assert world.dead() == []


async def test_a_stop_while_the_intake_is_stopped_ends_at_once_and_loses_nothing(world: World) -> None:
    stubborn = changed(world.settings, "service", dead_letter_least=50, dead_letter_pause_s=3600.0, max_in_flight=4)
    world.photos.answers["gone"] = 404
    async with world.service(stubborn) as service:
        for number in range(80):
            world.upload(f"poison{number}", f"gone/{number}")
        await eventually(lambda: world.events_logged("breaker.opened"))
        assert service.outcomes()["dead_lettered"] < 80
    assert world.events_logged("service.drain_timed_out") == []
    calm = changed(world.settings, "service", dead_letter_limit=0.0)
    async with world.service(calm):
        await eventually(lambda: by_key(world.dead()).keys() == {f"poison{number}" for number in range(80)})
