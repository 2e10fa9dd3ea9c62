"""The pages over HTTP: what they say without the servers behind them, whom they answer, and what they fetch."""

import asyncio
import html
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from consumer import events, telemetry
from consumer.events import Brand, Quality
from consumer.operations import run_log
from consumer.redis.store import Store
from consumer.settings import Settings
from consumer.tags import level_of
from consumer.webserver.server import serve
from tests.fakes import tags
from tests.harness import BRIGHT, RED, World, eventually
from tests.unit.runs.test_definition import RUN

if TYPE_CHECKING:
    from consumer.runs.definition import Kind, State

NOWHERE = "127.0.0.1:1"
PATHS = ("/", "/photo?id=a", "/dead-letters", "/runs", "/runs/a", "/runs/a/changes", "/service", "/picture?id=a")
#: A page may wait so long for what does not answer, and a little for a busy machine.
_PATIENCE_S = 12.0


NONSENSE = (
    *("/photo", "/photo?id=", "/photo?id=" + "x" * 1001, "/photo?id=%00", "/photo?id=%ff%fe", "/photo?id=a&id=b"),
    *(
        "/runs/..",
        "/runs/%2e%2e%2fetc",
        "/runs/A",
        "/runs/" + "a" * 300,
        "/../../etc/passwd",
        "/%00",
        "/site.css/..",
    ),
    *("/picture", "/picture?letter=0/99999999999999999999", "/picture?letter=-1/0", "/picture?letter=a"),
    *(
        "/?page=99999999999999999999",
        "/?brand=" + "%F0%9F%98%80" * 500,
        "/?level=%D9%A3",
        "/dead-letters?reason=<script>alert(1)</script>",
    ),
    *(
        "/dead-letters?sent=99999999&left=<script>alert(1)</script>",
        "/dead-letters?hours=1e9",
        "/templates/photos.html",
        "/photos.html",
    ),
)


@dataclass
class Site:
    """Running pages, a client that keeps no cookies, and their log."""

    client: aiohttp.ClientSession
    log: StringIO

    async def get(self, path: str, status: int = 200, **headers: str) -> str:
        async with self.client.get(path, headers=headers) as answer:
            text = await answer.text()
            assert answer.status == status, text
            return text

    async def until(self, path: str, text: str) -> str:
        """The page, as soon as it says something."""
        end = time.monotonic() + _PATIENCE_S
        while text not in (page := await self.get(path)):
            assert time.monotonic() < end, page
            await asyncio.sleep(0.05)
        return page

    @property
    def faults(self) -> list[str]:
        return [line for line in self.log.getvalue().splitlines() if "page.failed" in line]


@asynccontextmanager
async def site(settings: Settings, **changes: Any) -> AsyncIterator[Site]:
    log = StringIO()
    settings = settings.model_copy(update={"web": settings.web.model_copy(update={"port": 0, **changes})})
    async with (
        serve(settings, telemetry.configure_logging("debug", "json", log)) as address,
        aiohttp.ClientSession(address, cookie_jar=aiohttp.DummyCookieJar()) as client,
    ):
        yield Site(client, log)


@pytest.fixture
def alone() -> Settings:
    """Settings of servers of which none is there."""
    return Settings(kafka={"bootstrap_servers": NOWHERE}, redis={"url": f"redis://{NOWHERE}"}, triton={"url": NOWHERE})


async def test_without_any_server_every_page_says_so_in_time(alone: Settings) -> None:
    async with site(alone) as pages:

        async def timed(path: str) -> tuple[str, int, float]:
            began_s = time.monotonic()
            async with pages.client.get(path) as answer:
                return await answer.text(), answer.status, time.monotonic() - began_s

        found = dict(zip(PATHS, await asyncio.gather(*map(timed, PATHS)), strict=True))
        assert all(took_s < _PATIENCE_S for _, _, took_s in found.values()), found
        assert "Traceback" not in str(found)
        text, status, _ = found["/service"]
        assert (status, text.count("does not answer")) == (200, 4), "Kafka's lag, and each of the three"
        for path in ("/dead-letters", "/runs", "/runs/a", "/runs/a/changes"):
            assert found[path][1] == 503
            assert "Kafka does not answer" in found[path][0]
        assert "Redis does not answer" in found["/photo?id=a"][0]
        assert found["/picture?id=a"][1] == 404
        assert "Kafka does not answer" in await pages.until("/", "does not answer")
        assert pages.faults == []


async def test_servers_that_accept_and_say_nothing_hold_up_no_page() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = Settings(
            kafka={"bootstrap_servers": place},
            redis={"url": f"redis://{place}"},
            triton={"url": place, "deadline_s": 1},
        )
        async with site(settings) as pages:
            began_s = time.monotonic()
            texts = await asyncio.gather(*(pages.client.get(path) for path in PATHS))
            assert time.monotonic() - began_s < _PATIENCE_S
            assert {answer.status for answer in texts} <= {200, 202, 404, 503}
            assert pages.faults == []
            assert await pages.get("/live") == "ok\n"


async def test_nonsense_in_an_address_is_a_page_of_its_own(alone: Settings) -> None:
    async with site(alone) as pages:

        async def text_of(path: str) -> str:
            async with pages.client.get(path) as answer:
                assert answer.status in {200, 400, 404, 503}, path
                return await answer.text()

        texts = await asyncio.gather(*map(text_of, NONSENSE))
        assert not any("<script>alert" in text for text in texts)
        assert pages.faults == []


async def test_an_address_of_64_kb_is_refused(alone: Settings) -> None:
    async with site(alone) as pages:
        async with pages.client.get("/photo?id=" + "x" * 65_536) as answer:
            assert answer.status == 400
        assert await pages.get("/live") == "ok\n"


async def test_every_answer_holds_browsers_to_this_server(alone: Settings) -> None:
    async with site(alone) as pages:
        for path in ("/live", "/site.css", "/nowhere", "/service"):
            async with pages.client.get(path) as answer:
                said = answer.headers
                assert said["X-Content-Type-Options"] == "nosniff"
                assert "default-src 'none'" in said["Content-Security-Policy"]
                assert "frame-ancestors 'none'" in said["Content-Security-Policy"]
                assert "unsafe" not in said["Content-Security-Policy"]
                assert said["Cross-Origin-Resource-Policy"] == "same-origin"
                assert "Access-Control-Allow-Origin" not in said
                assert "Set-Cookie" not in said


async def test_a_name_that_others_point_here_and_their_forms_are_refused(alone: Settings) -> None:
    async with site(alone, allow_changes=True, names=("tags.example",)) as pages:
        await pages.get("/live", 421, Host="evil.example")
        await pages.get("/live", Host="tags.example")
        form = {"letter": "0/0"}
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {}):
            async with pages.client.post("/dead-letters", data=form, headers=headers) as answer:
                assert answer.status == 403, headers
        async with pages.client.post("/dead-letters", data={"letter": "x" * 100_000}) as answer:
            assert answer.status == 413
    async with site(alone) as pages, pages.client.post("/dead-letters", data=form) as answer:
        assert answer.status == 403
        assert "web.allow_changes" in await answer.text()


async def test_photos_are_fetched_from_where_the_service_may_and_only_once(world: World) -> None:
    world.photos.answers |= {"red": RED, "gone": BRIGHT}
    async with world.service() as service:
        for name in ("red", "gone"):
            world.upload(name)
        await eventually(lambda: service.outcomes() == {"tagged": 2})
        world.photos.answers["gone"] = 404
        world.photos.requests.clear()
        async with site(world.settings) as pages:
            await pages.until("/", 'data-photo="red"')
            async with pages.client.get("/picture?id=red") as answer:
                assert (answer.status, answer.content_type) == (200, "image/jpeg")
            await asyncio.gather(*(pages.get("/picture?id=gone", 404) for _ in range(20)))
            async with pages.client.get("/picture?id=red&of=uploads/0/99") as answer:
                assert answer.status == 200, "the place in the address is not read"
            assert sorted(world.photos.requests) == ["gone", "red"]
        narrow = world.settings.model_copy(
            update={"fetch": world.settings.fetch.model_copy(update={"allow_addresses": ()})}
        )
        async with site(narrow) as pages:
            await pages.until("/", 'data-photo="red"')
            await pages.get("/picture?id=red", 404)
            assert len(world.photos.requests) == 2


@pytest.mark.parametrize("busy", [False, True])
async def test_results_in_a_partition_that_was_added_later_appear(world: World, *, busy: bool) -> None:
    """Those that were there before the page knew of the partition, too, whether or not other results keep coming."""
    topic, producer = world.settings.kafka.tags_topic, world.producer
    admin = AdminClient({"bootstrap.servers": world.kafka})

    def publish(name: str, partition: int, by: Producer = producer) -> None:
        by.produce(topic, events.encode(tags(photo_id=name)), name, partition=partition)
        by.flush(10)

    async def keep_coming() -> None:
        while busy:
            publish("other", 0)
            await asyncio.sleep(0.1)

    publish("early", 0)
    async with site(world.settings) as pages:
        await pages.until("/", 'data-photo="early"')
        others = asyncio.create_task(keep_coming())
        before = len(admin.list_topics(topic).topics[topic].partitions)
        admin.create_partitions([NewPartitions(topic, before + 1)])[topic].result(10)
        await eventually(lambda: len(admin.list_topics(topic).topics[topic].partitions) > before)
        publish("late", before, Producer({"bootstrap.servers": world.kafka}))
        await pages.until("/", 'data-photo="late"')
        publish("later", before, Producer({"bootstrap.servers": world.kafka}))
        await pages.until("/", 'data-photo="later"')
        others.cancel()
        assert pages.faults == []


async def test_brands_of_all_times_come_from_redis_where_the_newest_results_have_them_no_more(world: World) -> None:
    world.photos.answers |= {"red": RED, "bright": BRIGHT}
    async with world.service() as service:
        world.upload("first", "red/1")
        await eventually(lambda: service.outcomes() == {"tagged": 1})
        for number in range(5):
            world.upload(f"later{number}", f"bright/{number}")
        await eventually(lambda: service.outcomes() == {"tagged": 6})
        async with site(world.settings, photos=2) as pages:
            await pages.until("/", "among the newest 2 results")
            assert 'data-photo="first"' not in await pages.get("/?brand=crimson")
            assert 'data-photo="first"' in await pages.get("/?brand=crimson&scope=index")
            best = await pages.get("/?scope=index&order=best")
            assert best.count('data-photo="later') == 5, "of all brands, the good ones"
            found = await pages.get("/photo?id=first")
            assert "crimson" in found
            assert "tagged" in found


async def test_the_best_of_all_times_are_turned_page_by_page(world: World) -> None:
    """Each once, the best first, whatever the filters leave of a page; and from the best on again."""
    scores = [round(0.4 + number / 1000, 3) for number in range(500)]
    written = [
        tags(
            photo_id=f"p{number:03d}",
            quality=Quality(score, level_of(score), good=score >= 0.5),
            version=f"{number + 1:013d}.{1 + number % 2:06d}.{0:013d}",
            brands=(Brand("crimson", 0.9),) if number % 10 == 0 else (),
        )
        for number, score in enumerate(scores)
    ]
    async with Store(world.settings.redis.url, timeout_s=5) as store:
        await store.write_each(written)
    async with site(world.settings) as pages:
        for query, wanted in (
            ("scope=index", [each for each in written if each.quality.good]),
            ("scope=index&brand=crimson", [each for each in written if each.brands]),
            ("scope=index&release=2&level=4", [each for each in written if ".000002." in each.version]),
        ):
            at_least = 0.625 if "level" in query else 0
            expected = [each.photo_id for each in reversed(wanted) if each.quality.score >= at_least]
            address, seen, turned = f"/?{query}", list[str](), 0
            while address:
                page = await pages.get(address)
                shown = re.findall(r'data-photo="(p\d+)"', page)
                assert len(shown) <= 60
                seen, turned = seen + shown, turned + 1
                more = re.search(r'rel="next" href="([^"]+)"', page)
                assert ("From the best on" in page) == (turned > 1)
                address = html.unescape(more[1]) if more else ""
            assert seen == expected
            assert turned == -(-len(expected) // 60)


async def test_runs_that_are_worked_on_come_first_and_ended_replays_apart(world: World) -> None:
    runs: tuple[tuple[str, Kind, State], ...] = (
        ("oldest", "rescore", "paused"),
        ("replay", "replay", "complete"),
        ("replaying", "replay", "started"),
        ("cancelled", "replay", "cancelled"),
        ("newest", "rescore", "promoted"),
    )
    for hour, (run_id, kind, state) in enumerate(runs):
        at = RUN.at + timedelta(hours=hour)
        run_log.save(world.settings.kafka, replace(RUN, run_id=run_id, kind=kind, state=state, at=at))
    async with site(world.settings) as pages:
        page = await pages.get("/runs")
        listed = [re.findall(r'href="/runs/(\w+)"', part) for part in page.split("<summary>")]
        assert listed == [["replaying", "oldest", "newest"], ["cancelled", "replay"]]
        assert "Ended replays of the last week: 2" in page


async def test_the_state_of_the_service_is_told(world: World) -> None:
    world.photos.answers["red"] = RED
    async with world.service() as service:
        world.upload("red")
        await eventually(lambda: service.outcomes() == {"tagged": 1})
    world.upload("late", "red/2")
    async with site(world.settings) as pages:
        # the age of the oldest is left out of a page that Kafka does not hand out the record in time for
        page = await pages.until("/service", "1 records, the oldest of")
        assert "1 is in force" in page
        assert page.count('<li class="up">') == 3
        assert "queued" in await pages.get("/photo?id=late")
        assert pages.faults == []
