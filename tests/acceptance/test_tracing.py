"""`photo-tagger run` with and without the extra that traces need."""

import asyncio
from pathlib import Path

import pytest

from consumer.embedded.paths import free_port
from consumer.settings import Settings
from tests.harness import RED, World, eventually
from tests.harness_process import ROOT, environment, photo_tagger, running_tagger

SETTINGS = 3


@pytest.fixture
def without_extra(tmp_path: Path) -> str:
    """A path that hides the extra from a process."""
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "opentelemetry.py").write_text("raise ModuleNotFoundError('gone', name='opentelemetry')\n")
    return f"{hiding}:{ROOT}"


async def test_a_service_without_the_extra_tags_photos_whatever_the_host_says_of_collectors(
    world: World, tmp_path: Path, without_extra: str
) -> None:
    world.photos.answers["red"] = RED
    standard = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    with running_tagger(world.settings, tmp_path, port=free_port(), PYTHONPATH=without_extra, **standard) as tagger:
        world.upload("red")
        await eventually(lambda: 'outcome="tagged"} 1.0' in tagger.get("/metrics")[1])
        assert len(tagger.log("tracing.unavailable")) == 1
        assert await asyncio.to_thread(tagger.terminate) is not None


def test_a_collector_that_is_set_without_the_extra_ends_the_service_with_one_line(
    tmp_path: Path, without_extra: str
) -> None:
    own = {"TAGGER_TRACING__ENDPOINT": "http://127.0.0.1:1", "TAGGER_HEALTH__PORT": str(free_port())}
    ended = photo_tagger("run", env=environment(Settings(), PYTHONPATH=without_extra, **own), cwd=tmp_path)
    assert ended.returncode == SETTINGS, ended
    assert ended.stderr == (
        "photo-tagger: tracing.endpoint (from TAGGER_TRACING__ENDPOINT): traces need the extra otel: "
        "pip install 'photo-tagger[otel]', or requirements/otel.txt\n"
    )
