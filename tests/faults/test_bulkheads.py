"""No name server, file system or slow host takes the places of the others, and none of their outages is a photo's."""

import asyncio
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from consumer import events
from consumer.events import PhotoUploaded
from consumer.settings import Settings
from tests.harness import RED, World, by_key, eventually, headers_of

PHOTOS = 12


@dataclass
class Kernel:
    """Stands between the service and the kernel: opening a file in a folder of this name waits until it is released."""

    hung: str = "hung"
    waiting: int = 0
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    kernel, real = Kernel(), os.open

    def opened(path: str, *args: int, **more: int) -> int:
        if path == kernel.hung:
            kernel.waiting += 1
            kernel.released.wait(60)
        return real(path, *args, **more)

    monkeypatch.setattr(os, "open", opened)
    yield kernel
    kernel.released.set()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for folder in ("hung", "sound"):
        (root / folder).mkdir(parents=True)
        for number in range(PHOTOS):
            (root / folder / f"{number}.jpg").write_bytes(RED + f"{folder}{number}".encode())
    return root


def settings_for(world: World, root: Path | None = None, **fetch: object) -> Settings:
    changes = {"schemes": ("http", "file"), "file_root": root, **fetch}
    return world.settings.model_copy(
        update={
            "fetch": world.settings.fetch.model_copy(update=changes),
            "retry": world.settings.retry.model_copy(update={"rounds": 2, "delays_s": (0.5,)}),
        }
    )


def send(world: World, photo_id: str, uri: str) -> None:
    event = PhotoUploaded(photo_id, uri, datetime.now(UTC))
    world.send(photo_id, events.encode(event), events.UPLOADED)


async def test_a_mount_that_hangs_stops_no_other_photo_and_its_own_wait_for_it(
    world: World, root: Path, kernel: Kernel
) -> None:
    world.photos.answers["red"] = RED
    kernel.hung = ""
    async with world.service(settings_for(world, root, total_timeout_s=1.0)) as service:
        for number in range(3):
            send(world, f"first{number}", f"file://{root}/hung/{number}.jpg")
        await eventually(lambda: service.outcomes() == {"tagged": 3})
        kernel.hung = "hung"
        for number in range(PHOTOS):
            send(world, f"hung{number}", f"file://{root}/hung/{number}.jpg")
        await eventually(lambda: kernel.waiting >= 8)
        for number in range(PHOTOS):
            send(world, f"sound{number}", f"file://{root}/sound/{number}.jpg")
            world.upload(f"web{number}", f"red/{number}")
        tagged = {f"{kind}{number}" for kind in ("sound", "web") for number in range(PHOTOS)}
        await eventually(lambda: tagged <= by_key(world.tags()).keys())
        assert kernel.waiting <= 16
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
        # Every round of the retry topic has passed several times.
        await eventually(lambda: len(world.waiting()) > 5 * PHOTOS)
        assert world.dead() == []
        assert world.events_logged("host.lost")
        kernel.hung = ""
        kernel.released.set()
        await eventually(lambda: service.outcomes().get("tagged") == 3 * PHOTOS + 3)
        assert world.dead() == []


async def test_a_root_folder_that_vanishes_is_waited_for(world: World, root: Path) -> None:
    elsewhere = root.with_name("elsewhere")
    async with world.service(settings_for(world, root)) as service:
        send(world, "before", f"file://{root}/sound/0.jpg")
        await eventually(lambda: service.outcomes() == {"tagged": 1})
        shutil.move(root, elsewhere)
        for number in range(PHOTOS):
            send(world, f"during{number}", f"file://{root}/sound/{number}.jpg")
        await eventually(lambda: world.events_logged("host.lost"))
        world.photos.answers["red"] = RED
        world.upload("web", "red/1")
        await eventually(lambda: "web" in by_key(world.tags()))
        # Every round of the retry topic has passed several times.
        await eventually(lambda: len(world.waiting()) > 3 * PHOTOS)
        assert world.dead() == []
        shutil.move(elsewhere, root)
        await eventually(lambda: len(by_key(world.tags())) == PHOTOS + 2)
    assert world.dead() == []


@pytest.mark.parametrize("domains", [1, 64])
async def test_silent_name_servers_do_not_delay_the_photos_of_other_hosts(
    world: World, monkeypatch: pytest.MonkeyPatch, domains: int
) -> None:
    released, asked = threading.Event(), []
    real = socket.getaddrinfo

    def name_server(name: str, port: int, *args: object, **more: object) -> object:
        if not str(name).endswith(".test"):
            return real(name, port, *args, **more)  # type: ignore[arg-type]
        asked.append(name)
        if name != "good.test":
            released.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real("127.0.0.1", port, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", name_server)
    world.photos.answers["red"] = RED
    port = world.photos.address.rpartition(":")[2]
    async with world.service(settings_for(world)) as service:
        send(world, "first", f"http://good.test:{port}/red/first")
        await eventually(lambda: service.outcomes() == {"tagged": 1})
        for number in range(48):
            send(world, f"silent{number}", f"http://{number}.silent{number % domains}.test:{port}/red/{number}")
        await eventually(lambda: len(asked) > 10)
        for number in range(PHOTOS):
            send(world, f"good{number}", f"http://good.test:{port}/red/{number}")
        await eventually(lambda: service.outcomes().get("tagged") == PHOTOS + 1, deadline_s=25)
        released.set()


async def test_what_is_unfinished_when_its_event_comes_is_tagged_when_it_is_whole(world: World) -> None:
    unfinished = {"nothing": b"", "nulls": bytes(len(RED)), "few": RED[:3], "half": RED[: len(RED) // 2]}
    world.photos.answers.update(unfinished)
    for name in unfinished:
        world.upload(name)
        world.upload(f"{name}-summed", name, content_sha256=sha256(RED).hexdigest())
    count = 2 * len(unfinished)
    patient = settings_for(world, not_found_grace_s=600.0)
    slow = patient.model_copy(update={"retry": patient.retry.model_copy(update={"delays_s": (4.0,)})})
    async with world.service(slow) as service:
        await eventually(lambda: service.outcomes().get("deferred") == count)
        world.photos.answers.update(dict.fromkeys(unfinished, RED))
        await eventually(lambda: service.outcomes() == {"deferred": count, "tagged": count})
    assert world.dead() == []


@pytest.mark.parametrize("field", ["uploaded_at", "deleted_at"])
async def test_an_event_from_a_wrong_clock_does_not_outrank_the_next_ones(world: World, field: str) -> None:
    world.photos.answers["red"] = RED
    kind = events.UPLOADED if field == "uploaded_at" else events.DELETED
    wrong = ("0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2126-11-21T00:00:00Z", "9999-12-31T23:59:59Z")
    for moment in wrong:
        value = f'{{"photo_id": "p", "uri": "{world.photos.url}/red", "{field}": "{moment}"}}'.encode()
        world.send("p", value, kind)
    world.upload("p", "red")
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == {"dead_lettered": len(wrong), "tagged": 1})
        world.delete("p")
        await eventually(lambda: service.outcomes().get("deleted") == 1)
    for letter in world.dead():
        said = headers_of(letter)
        assert said["reason"] == "invalid_event"
        assert f"field {field}: " in said["detail"]
