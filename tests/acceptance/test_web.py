"""`photo-tagger web` as a person uses it: in a browser, with clicks and keys, on a desk and on a phone."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from consumer.embedded.paths import cache_folder
from consumer.operations import run_log
from consumer.service.run import Service
from tests.browser import DESKTOP, PHONE, Browser, Page, chromium, needs_chromium
from tests.change_bench import ChangeBench
from tests.harness import BLUE, BRIGHT, DARK, RED, World, eventually
from tests.harness_process import environment, photo_tagger

pytestmark = needs_chromium

#: What a sender may call a photo: nothing of it may be more than a text on any page.
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "../../etc/passwd",
    "..%2f..%00%0d%0aX: y",
    "{{ 7 * 7 }}&amp;?id=other#x",
    "\u202egpj.exe \U0001f4a5 caf\u00e9",
    "javascript:alert(1)",
    "a/b\\c' + 1 ;",
)
PAGES = ("", "photo?id=p1", "photo?id=missing", "photo?id=never", "dead-letters", "runs", "service", "nowhere")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as running:
        yield running


@contextmanager
def web(world: World, *options: str) -> Iterator[str]:
    """The pages of a world in a process of their own; that says nothing but its address, and ends when it is told."""
    process = subprocess.Popen(
        [sys.executable, "-m", "consumer.cli", "web", "--port", "0", *options],
        env=environment(world.settings, TAGGER_LOG__LEVEL="warning"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address), process.communicate()
        yield address
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=15)
        assert (process.returncode, said) == (0, ("", ""))
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@asynccontextmanager
async def tagged(world: World, *photo_ids: str) -> AsyncIterator[Service]:
    """A service that has tagged some photos and refused two."""
    world.photos.answers |= {"red": RED, "blue": BLUE, "bright": BRIGHT, "dark": DARK, "broken": BLUE[: len(BLUE) // 2]}
    kinds = ("red", "blue", "bright", "dark")
    async with world.service() as service:
        for number, photo_id in enumerate(photo_ids):
            world.upload(photo_id, f"{kinds[number % 4]}/{number}")
        world.upload("missing")
        world.upload("broken")
        await eventually(
            lambda: (
                (service.outcomes().get("tagged", 0), service.outcomes().get("dead_lettered")) == (len(photo_ids), 2)
            )
        )
        yield service


def shown(*photo_ids: str) -> str:
    """A condition: exactly these photos are in the grid, and their pictures are there."""
    return (
        "JSON.stringify([...document.querySelectorAll('.photo')].map(found => found.dataset.photo).sort()) === "
        f"JSON.stringify({json.dumps(photo_ids)}.sort()) && "
        "[...document.querySelectorAll('.photo img')].every(found => !found.complete || found.naturalWidth > 0)"
    )


async def test_a_person_filters_opens_a_photo_and_sees_new_ones_come(world: World, browser: Browser) -> None:
    async with tagged(world, "p0", "p1", "p2", "p3"), browser.page() as page:
        with web(world) as address:
            await page.open(address)
            await page.until(shown("p0", "p1", "p2", "p3"))
            await page.until("document.querySelector('[value=crimson]') !== null")
            await page.click("[value=crimson]", loads=True)
            await page.until(shown("p0"))
            assert await page.run("location.search") == "?brand=crimson"
            await page.run("window.mark = true")
            world.upload("p4", "red/4")
            await page.until(shown("p0", "p4"))
            assert await page.run("window.mark"), "what is new comes without a load"
            await page.press("ArrowRight")
            await page.press("Enter", loads=True)
            assert await page.run("new URLSearchParams(location.search).get('id')") == "p4"
            await page.until("document.querySelector('.large img').naturalWidth > 0")
            text = await page.text()
            assert "no_logo" in text
            assert "under release 1" in text
            await page.press("/")
            await page.run("document.activeElement.select()")
            await page.write("missing")
            await page.press("Enter", loads=True)
            text = await page.text()
            assert "http_4xx" in text
            assert "The photo host says that there is no such photo." in text
            assert page.complaints == []


async def test_a_dead_letter_is_sent_again_by_two_clicks(world: World, browser: Browser) -> None:
    async with tagged(world) as service, browser.page(PHONE) as page:
        with web(world, "--allow-changes") as address:
            await page.open(address + "dead-letters?reason=http_4xx")
            assert await page.run("document.querySelectorAll('[data-dead]').length") == 1
            world.photos.answers["missing"] = RED
            await page.click("[name=letter]")
            await page.click("button.strong", loads=True)
            assert "1 sent again." in await page.text()
            await eventually(lambda: service.outcomes().get("tagged") == 1)
            await page.open(address + "dead-letters")
            assert "tagged since" in await page.text()
            assert page.complaints == []
        with web(world) as address:
            await page.open(address + "dead-letters")
            assert await page.run("document.querySelectorAll('[name=letter], button.strong').length") == 0


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)])
async def test_a_run_is_followed_to_what_it_changes(
    change: ChangeBench, browser: Browser, size: tuple[int, int], *, dark: bool
) -> None:
    """Its page counts on while it works; what its candidate changes is a click away, with the photos."""
    rules, wrong = axe(), dict[str, list[str]]()
    async with change.world.service(change.settings) as service:
        change.upload(12)
        await change.tagged(service)
    run = await change.run()
    night = replace(run, run_id="night", kind="replay", state="complete", at=run.at + timedelta(hours=1))
    await asyncio.to_thread(run_log.save, change.settings.kafka, night)
    async with browser.page(size, dark=dark) as page:

        async def look(name: str) -> None:
            if pictures := os.environ.get("WEB_PICTURES"):
                await page.picture(Path(pictures) / f"{name}-{size[0]}.png")
            if await page.run("document.documentElement.scrollWidth") > size[0]:
                wrong[name] = ["wider than the window"]
            if found := await violations(page, rules):
                wrong[name] = found

        with web(change.world) as address:
            await page.open(address + "runs")
            assert "night" not in await page.text(), "an ended replay is folded away"
            await look("runs-one")
            await page.run("document.querySelector('summary').focus(); 0")
            await page.press("Enter")
            await page.until("document.querySelector('details').open")
            assert "night" in await page.text()
            await look("runs-ended")
            await page.click(f"a[href='/runs/{run.run_id}']", loads=True)
            assert "0 of 12 records" in await page.text()
            await change.work(run)
            await page.until("document.querySelector('#run').innerText.includes('12 of 12 records')")
            await look("run")
            await page.click("a[href$='/changes']", loads=True)
            await page.until("document.querySelectorAll('.change img').length >= 12")
            await page.until("[...document.querySelectorAll('.change img')].every(found => found.naturalWidth > 0)")
            assert "photo_quality" in await page.text()
            await look("changes")
            assert page.complaints == []
    assert wrong == {}


async def test_what_senders_write_is_text_and_nothing_else(world: World, browser: Browser) -> None:
    async with tagged(world, *HOSTILE):
        for photo_id in HOSTILE:
            world.upload(f"{photo_id}!", "missing", uploader=photo_id, place=photo_id, metadata={photo_id: [photo_id]})
        await eventually(lambda: len(world.dead()) == 2 + len(HOSTILE))
        with web(world, "--allow-changes") as address:
            async with browser.page() as page:
                await page.open(address)
                await page.until(shown(*HOSTILE))
                links = await page.run("[...document.querySelectorAll('.photo h3 a')].map(found => found.href)")
                await page.open(address + "dead-letters")
                links += await page.run("[...document.querySelectorAll('[data-dead] h3 a')].map(found => found.href)")
                assert len(links) == 2 + 2 * len(HOSTILE)
                seen = set()
                for link in links:
                    await page.open(link)
                    assert await page.run("location.href.startsWith('http://127.0.0.1:')")
                    seen.add(await page.run("document.querySelector('#search').value"))
                    assert "\u202e" not in await page.text()
                assert seen >= {*HOSTILE, *(f"{photo_id}!" for photo_id in HOSTILE)}
                assert page.complaints == []


def axe() -> str:
    """The rules of axe-core, which `scripts/setup test` brings."""
    found = sorted(cache_folder().glob("axe-core-*/axe.min.js"))
    if not found:
        pytest.skip("needs axe-core: npm, and scripts/setup test")
    return found[-1].read_text(encoding="utf-8")


async def violations(page: Page, rules: str) -> list[str]:
    await page.run(f"{rules}; 0")
    found = await page.run("axe.run().then(said => said.violations.map(each => [each.id, each.nodes[0].html]))")
    return [" ".join(each) for each in found]


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (DESKTOP, True), (PHONE, False)])
async def test_every_page_is_accessible_and_fits(
    world: World, browser: Browser, size: tuple[int, int], *, dark: bool
) -> None:
    rules, pictures = axe(), os.environ.get("WEB_PICTURES")
    async with tagged(world, "p0", "p1", "p2", "p3", "a" * 200), browser.page(size, dark=dark) as page:
        with web(world, "--allow-changes") as address:
            wrong = {}
            for path in PAGES:
                await page.open(address + path)
                if pictures:
                    name = f"{path.partition('?')[0] or 'photos'}-{size[0]}{'-dark' if dark else ''}.png"
                    await page.picture(Path(pictures) / name)
                if await page.run("document.documentElement.scrollWidth") > size[0]:
                    wrong[path] = ["wider than the window"]
                if found := await violations(page, rules):
                    wrong[path] = found
    assert wrong == {}


async def test_an_address_that_others_reach_has_to_be_wanted(world: World) -> None:
    env = environment(world.settings)
    for host in ("0.0.0.0", "::", "192.0.2.1", ""):
        ended = await asyncio.to_thread(photo_tagger, "web", "--host", host, env=env)
        assert (ended.returncode, ended.stdout) == (3, "")
        (line,) = ended.stderr.splitlines()
        assert "TAGGER_WEB__OPEN_TO_NETWORK" in line or "open_to_network" in line
