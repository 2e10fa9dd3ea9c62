"""The host of the service runs out of something: nobody takes its log, or it has no memory. No photo pays for it."""

import io
import os
import re
import resource
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from consumer import events
from consumer.embedded.paths import free_port
from tests.harness import RED, World, eventually
from tests.harness_process import RunningTagger, environment, running_tagger

pytestmark = pytest.mark.timeout(180)

MIB = 1024 * 1024
PHOTOS = 6


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def pipe_without_a_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("output", [full_disk, pipe_without_a_reader])
async def test_a_process_whose_output_nobody_takes_works_and_stops_as_ever(
    world: World, tmp_path: Path, output: Callable[[], int]
) -> None:
    world.photos.answers["red"] = RED
    port, taken = free_port(), output()
    env = environment(world.settings, TAGGER_HEALTH__PORT=str(port), TAGGER_LOG__LEVEL="debug")
    process = started(env, tmp_path, taken)
    os.close(taken)
    try:
        tagger = RunningTagger(process, tmp_path / "none", port)
        for number in range(PHOTOS):
            world.upload(f"red{number}", f"red/{number}", partition=0)
            world.send(f"bad{number}", b"{}", events.UPLOADED, partition=0)
        await eventually(lambda: len(world.tags()) == len(world.dead()) == PHOTOS)
        (lost,) = re.findall(r"^tagger_log_lines_lost_total (\S+)$", tagger.get("/metrics")[1], re.MULTILINE)
        assert float(lost) >= 2 * PHOTOS
        assert tagger.terminate(signal.SIGTERM)[0] == 0
        assert world.committed()[0] == 2 * PHOTOS
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


async def test_photos_that_come_while_the_host_has_no_memory_are_tagged_once_it_has_some(
    world: World, tmp_path: Path
) -> None:
    world.photos.answers.update({"large": large_photo(), "red": RED})
    with running_tagger(world.settings, tmp_path, port=free_port()) as tagger:
        tagger.wait_ready()
        world.upload("red", "red/0")
        await eventually(lambda: len(world.tags()) == 1)
        # Enough for all that runs, and not for the decode of one large photo.
        limit = tagger.memory("VmSize") + 64 * MIB
        resource.prlimit(tagger.process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        for number in range(PHOTOS):
            world.upload(f"large{number}", f"large/{number}")
        await eventually(lambda: len(tagger.log("host.ran_out")) >= PHOTOS)
        assert tagger.get("/live")[0] == 200
        resource.prlimit(tagger.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await eventually(lambda: len(world.tags()) == PHOTOS + 1)
        assert world.dead() == []
        assert tagger.log("photo.failed") == []
        assert tagger.terminate()[0] == 0


def started(env: dict[str, str], folder: Path, output: int) -> subprocess.Popen[bytes]:
    """The service in a process of its own, with this file as its output."""
    command = [sys.executable, "-m", "consumer.cli", "run"]
    return subprocess.Popen(command, env=env, cwd=folder, stdout=output, stderr=output)


def large_photo() -> bytes:
    """A photo of little data whose decode takes 120 MB."""
    buffer = io.BytesIO()
    Image.new("RGB", (8_000, 5_000), (250, 20, 20)).save(buffer, "PNG", compress_level=zlib.Z_BEST_SPEED)
    return buffer.getvalue()
