"""Model versions on a real Triton whose control is closed to all without its key: load, verify, refuse, retire."""

import asyncio
from pathlib import Path
from shutil import copytree
from typing import Self

import numpy as np
import onnx
import pytest
from pydantic import SecretStr

from consumer.errors import NotFound, Refused, SettingsError
from consumer.operations import models
from consumer.settings import Settings
from consumer.triton.repository import LoadRefused
from tests.harness import eventually
from tests.tiny_models import SIZE, publish_quality, quality_graph

QUALITY, BRAND = "photo_quality", "brand_logo"
GREY = np.full((SIZE, SIZE, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def published(operated_triton: dict[str, object]) -> Settings:
    """The settings of an operator, without Kafka."""
    return Settings(triton=operated_triton)


def with_triton(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update={"triton": settings.triton.model_copy(update=changes)})


async def states(settings: Settings) -> dict[tuple[str, int], str]:
    return {(each.model, each.version): each.state for each in await models.list_versions(settings)}


class Traffic:
    """Asks one version again and again; every answer must be that version's own."""

    def __init__(self, settings: Settings, version: str, expected: float) -> None:
        self._client, self._version, self._expected = models.client_of(settings), version, expected
        self.answers = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        ended = await asyncio.gather(self._task, return_exceptions=True)
        assert isinstance(ended[0], asyncio.CancelledError), ended
        await self._client.__aexit__()

    async def _run(self) -> None:
        while True:
            answer = await self._client.answer(QUALITY, self._version, GREY, batched=True)
            assert answer["quality_score"][0] == pytest.approx(self._expected, abs=1e-5)
            self.answers += 1


def publish_another(settings: Settings, scale: float) -> tuple[int, Path]:
    """The next version of the quality model, which is not loaded; its number and its folder."""
    repository = settings.triton.repository
    assert repository is not None
    path = publish_quality(repository, scale)
    return int(path.name), path


async def test_versions_come_and_go_beside_one_that_answers_all_the_while(published: Settings) -> None:
    second, _ = publish_another(published, 0.5)
    broken, path = publish_another(published, 0.25)
    (path / "model.py").write_text("raise OSError('no engine')")
    async with Traffic(published, "1", 128 / 255) as traffic:
        assert {1, second} <= {*await models.load(published, QUALITY, second)}
        with pytest.raises(LoadRefused, match=f"version {broken}") as refused:
            await models.load(published, QUALITY, broken)
        assert "\n" not in str(refused.value), "the stack of the backend says nothing to an operator"
        found = await states(published)
        assert (found[QUALITY, 1], found[QUALITY, second], found[QUALITY, broken]) == ("READY", "READY", "UNAVAILABLE")
        assert second not in await models.retire(published, QUALITY, second, {})
        found = await states(published)
        assert (found[QUALITY, 1], found[QUALITY, second]) == ("READY", "UNAVAILABLE")
        count = traffic.answers
        await eventually(lambda: traffic.answers > count + 3)


async def test_the_list_has_the_figures_of_the_folder_and_the_states_of_triton(published: Settings) -> None:
    number, _ = publish_another(published, 0.5)
    listed = {(each.model, each.version): each for each in await models.list_versions(published)}
    assert {(BRAND, 1), (QUALITY, 1), (QUALITY, number)} <= listed.keys()
    assert (listed[BRAND, 1].state, listed[BRAND, 1].figures) == ("READY", {"accuracy": 1.0})
    assert (listed[QUALITY, number].state, listed[QUALITY, number].figures) == ("not loaded", {"srcc": 0.5})
    assert (listed[QUALITY, 1].bytes or 0) > 10_000
    bare = {
        (each.model, each.version): each for each in await models.list_versions(with_triton(published, repository=None))
    }
    assert (QUALITY, number) not in bare
    assert (bare[QUALITY, 1].state, bare[QUALITY, 1].figures) == ("READY", None)


async def test_a_version_that_answers_as_published_passes_and_its_latency_is_measured(published: Settings) -> None:
    for model, outputs in ((QUALITY, {"quality_score", "quality_levels"}), (BRAND, {"brand_probs"})):
        found = await models.verify(published, model, 1)
        assert found.passed
        assert {each.output for each in found.comparisons} == outputs
        assert len(found.comparisons) == 8 * len(outputs)
        assert max(each.difference or 0 for each in found.comparisons) < 1e-5
        assert found.requests == 80
        assert 0 < (found.p50_ms or 0) <= (found.p99_ms or 0)


async def test_another_graph_than_the_published_one_is_found_by_its_answers_and_its_hash(
    published: Settings, tmp_path: Path
) -> None:
    # By the folder, version 1 answers 0.8 of what Triton does; the graph that is there now is Triton's.
    path = publish_quality(tmp_path, 0.8)
    onnx.save(quality_graph(1.0), path / "model.onnx")
    found = await models.verify(with_triton(published, repository=tmp_path), QUALITY, 1)
    assert not found.passed
    assert found.damaged == ("model.onnx",)
    wrong = [each for each in found.comparisons if not each.within]
    assert {each.output for each in wrong} == {"quality_score", "quality_levels"}
    for each in wrong:
        if each.output == "quality_score":
            assert each.got == pytest.approx(each.expected / 0.8, abs=1e-5)


async def test_a_golden_photo_that_cannot_be_read_is_named(published: Settings, tmp_path: Path) -> None:
    first, second, *_ = sorted((publish_quality(tmp_path) / "golden").iterdir())
    first.write_bytes(b"no photo")
    second.unlink()
    found = await models.verify(with_triton(published, repository=tmp_path), QUALITY, 1)
    assert found.damaged == (f"golden/{first.name}", f"golden/{second.name}")
    problems = {each.photo: each.problem for each in found.comparisons if not each.within}
    assert "unsupported_format" in problems[f"golden/{first.name}"]
    assert "No such file" in problems[f"golden/{second.name}"]
    assert len(problems) == 2


async def test_what_is_needed_and_the_last_one_stay_loaded(published: Settings) -> None:
    with pytest.raises(Refused, match="it is in force, release 7"):
        await models.retire(published, QUALITY, 1, {(QUALITY, 1): "in force, release 7"})
    with pytest.raises(Refused, match="the only version of more_logos"):
        await models.retire(published, "more_logos", 1, {})
    found = await states(published)
    assert found[QUALITY, 1] == found["more_logos", 1] == "READY"


@pytest.mark.parametrize("key", ["", "another"])
async def test_without_its_key_triton_does_nothing_and_the_setting_is_named(published: Settings, key: str) -> None:
    number, _ = publish_another(published, 0.5)
    for work in (models.list_versions, lambda settings: models.load(settings, QUALITY, number)):
        with pytest.raises(SettingsError, match="its key") as refused:
            await work(with_triton(published, admin_key=SecretStr(key)))
        assert refused.value.setting == "triton.admin_key"
    assert (await states(published))[QUALITY, number] == "not loaded"
    assert (await models.verify(with_triton(published, admin_key=SecretStr(key)), QUALITY, 1)).passed


async def test_what_is_not_there_is_named(published: Settings) -> None:
    number, _ = publish_another(published, 0.5)
    with pytest.raises(SettingsError, match="set it to the folder") as refused:
        await models.load(with_triton(published, repository=None), QUALITY, 1)
    assert refused.value.setting == "triton.repository"
    with pytest.raises(NotFound, match="there are 1, 2, "):
        await models.load(published, QUALITY, 999)
    with pytest.raises(NotFound, match=f"models there: {BRAND}, more_logos, odd_logos, {QUALITY}"):
        await models.load(published, "nothing", 1)
    with pytest.raises(NotFound, match="models load"):
        await models.verify(published, QUALITY, number)


async def test_a_folder_that_triton_does_not_serve_is_told(published: Settings, tmp_path: Path) -> None:
    assert published.triton.repository is not None
    copytree(published.triton.repository, tmp_path / "other")
    copytree(published.triton.repository / QUALITY / "1", tmp_path / "other" / QUALITY / "900")
    with pytest.raises(LoadRefused, match="another folder than"):
        await models.load(with_triton(published, repository=tmp_path / "other"), QUALITY, 900)
    assert (await states(published))[QUALITY, 1] == "READY"
