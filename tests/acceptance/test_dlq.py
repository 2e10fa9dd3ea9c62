"""Dead letters as an operator handles them: listed, shown, and sent again."""

import asyncio
import json
import subprocess
from typing import Any

from consumer.events import Source
from consumer.kafka.headers import Failure, dead_headers
from tests.acceptance.test_command_line import in_terminal
from tests.fakes import MOMENT
from tests.harness import BLUE, RED, World, by_key, eventually
from tests.harness_process import environment, photo_tagger


async def dlq(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs one `dlq` command against the world's servers, off the event loop that serves its photos."""
    return await asyncio.to_thread(photo_tagger, "dlq", *arguments, env=environment(world.settings))


async def rows(world: World, *arguments: str) -> list[dict[str, Any]]:
    ended = await dlq(world, *arguments)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


async def states(world: World) -> list[tuple[str, str]]:
    return [(row["photo_id"], row["state"]) for row in await rows(world, "list")]


async def test_dead_letters_are_listed_shown_and_sent_again_and_a_success_shows(world: World) -> None:
    world.photos.answers["broken"] = BLUE[: len(BLUE) // 2]
    async with world.service() as service:
        world.upload("late")
        await eventually(lambda: service.outcomes() == {"dead_lettered": 1})
        world.upload("broken")
        await eventually(lambda: service.outcomes() == {"deferred": 1, "dead_lettered": 2})

        listed = await rows(world, "list")
        assert [(row["photo_id"], row["reason"], row["attempts"], row["state"]) for row in listed] == [
            ("late", "http_4xx", 1, "waiting"),
            ("broken", "corrupt_image", 2, "waiting"),
        ]
        assert await rows(world, "list", "--reason", "http_4xx", "--photo", "late", "--since", "1h") == listed[:1]
        assert await rows(world, "list", "--until", "1h") == []
        (shown,) = await rows(world, "show", listed[0]["id"])
        assert shown["payload"]["photo_id"] == "late"
        assert ["reason", "http_4xx"] in shown["headers"]

        world.photos.answers["late"] = RED
        uploads = world.settings.kafka.uploads_topic
        assert await rows(world, "retry") == [
            {"executed": False, "letters": 2, "reasons": {"corrupt_image": 1, "http_4xx": 1}, "lost": 0}
        ]
        assert len(world.read(uploads)) == 2
        (sent,) = await rows(world, "retry", "--reason", "http_4xx", "--execute", "--rate", "100")
        assert sent == {"executed": True, "letters": 1, "reasons": {"http_4xx": 1}, "lost": 0}
        await eventually(lambda: service.outcomes() == {"deferred": 1, "dead_lettered": 2, "tagged": 1})
        assert await states(world) == [("late", "succeeded"), ("broken", "waiting")]

        (first, again) = [message for message in world.read(uploads) if message.key() == b"late"]
        assert again.value() == first.value()
        dead_topic = world.settings.kafka.dead_topic
        assert again.headers() == [*first.headers(), ("redriven_from", f"{dead_topic}/{listed[0]['id']}".encode())]

        await rows(world, "retry", "--execute")
        await eventually(lambda: service.outcomes() == {"deferred": 2, "dead_lettered": 3, "tagged": 1})
        assert await states(world) == [("late", "succeeded"), ("broken", "failed_again"), ("broken", "waiting")]
        (left,) = await rows(world, "retry")
        assert left["letters"] == 1
        (all_of_them,) = await rows(world, "retry", "--again")
        assert all_of_them["letters"] == 1, "of one event, only the newest letter is sent again"
    assert by_key(world.tags()).keys() == {"late"}


async def test_what_another_program_wrote_at_length_fills_no_screen_and_is_kept_in_json(world: World) -> None:
    """What identifies a row is whole at 80 columns, also the longest id that a photo may have."""
    longest, huge = "p" * 200, "x" * 300_000
    for key, text in ((longest, huge), (huge, "short")):
        failure = Failure(text, text, 10**9, Source("photo-uploads", 3, 10**18), MOMENT)
        world.producer.produce(world.settings.kafka.dead_topic, b"{}", key, headers=list(dead_headers(failure)))
    world.producer.flush(10)
    kept = {row["photo_id"]: row for row in await rows(world, "list")}
    assert {row["detail"] for row in kept.values()} == {huge, "short"}
    assert kept.keys() == {longest, huge}
    code, said = in_terminal(80, "dlq", "list", **environment(world.settings, TERM="dumb"))
    assert code == 0
    assert all(row["id"] in said for row in kept.values())
    assert said.count("p") >= len(longest)
    lines = [line.rstrip() for line in said.splitlines()]
    assert max(map(len, lines)) <= 80
    assert len(lines) < 60
    code, said = in_terminal(80, "dlq", "list", "--json", **environment(world.settings))
    assert said.count("x") >= 3 * len(huge)


async def test_what_is_not_there_or_makes_no_sense_is_named(world: World) -> None:
    missing = await dlq(world, "show", "0/7")
    assert (missing.returncode, missing.stderr) == (6, "no dead letter 0/7\n")
    assert (await dlq(world, "show", "seven")).returncode == 3
    unknown = await dlq(world, "list", "--reason", "bad_luck")
    assert unknown.returncode == 3
    assert "http_5xx" in unknown.stderr
    assert await rows(world, "list") == []
    assert await rows(world, "retry", "--execute") == [{"executed": True, "letters": 0, "reasons": {}, "lost": 0}]
