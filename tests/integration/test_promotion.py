"""Promotions and the way back on a real Kafka and Triton: each is a release, and none is of what was not verified."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from math import nan
from pathlib import Path
from shutil import copytree

import onnx
import pytest

from consumer.embedded.kafka import Kafka
from consumer.embedded.servers import Servers
from consumer.errors import ContractMismatch, NotFound, Refused
from consumer.kafka.topics import create_topics
from consumer.operations import promotion
from consumer.operations.promotion import Change, Wish
from consumer.releases import Decision, ModelVersion, Numbered
from consumer.settings import Settings
from tests.tiny_models import BRAND, publish_brand, publish_quality, quality_graph

QUALITY = {number: ModelVersion("photo_quality", number) for number in ("1", "2", "3")}
LOGO = {number: ModelVersion("brand_logo", number) for number in ("1", "2")}
FIRST, SECOND = Decision(0.51, 0.61), Decision(0.52, 0.62)


@pytest.fixture(scope="module")
def triton(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """Settings of a Triton with two versions of each model, whose thresholds differ, and two models of other names."""
    repository = tmp_path_factory.mktemp("promotion")
    for version, scale in ((1, 1.0), (2, 0.5)):
        publish_quality(repository, scale, 0.5 + version / 100)
        publish_brand(repository, scale, 0.6 + version / 100)
    publish_brand(repository, spec=replace(BRAND, name="more_logos", labels=("cyan", "azure", "no_logo")))
    publish_brand(repository, spec=replace(BRAND, name="odd_logos", labels=("crimson", "azure", "green")))
    started = servers.start_triton(repository, name="promotion")
    publish_quality(repository, 0.25)
    yield {"url": started.grpc_url, "repository": repository}
    started.stop()


@pytest.fixture
def settings(kafka: Kafka, triton: dict[str, object]) -> Settings:
    """With topics of its own."""
    mark = uuid.uuid4().hex[:12]
    names = {f"{kind}_topic": f"{kind}-{mark}" for kind in ("uploads", "tags", "dead", "retry", "releases")}
    made = Settings(kafka={"bootstrap_servers": kafka.bootstrap_servers, **names}, triton=triton)
    create_topics(kafka.bootstrap_servers, made.kafka.topics)
    return made


async def promote(settings: Settings, reason: str = "better", *, forced: bool = False, **wish: object) -> Change:
    return await promotion.promote(settings, Wish(**wish), reason, forced=forced)


def judges(release: Numbered) -> tuple[int, str, str, Decision]:
    now = release.release
    return release.number, now.quality.version, now.brand.version, now.decision


async def test_versions_go_into_force_one_by_one_and_back_again(settings: Settings) -> None:
    first = await promote(settings, quality=QUALITY["1"], brand=LOGO["1"], brand_threshold=0.9)
    assert judges(first.release) == (1, "1", "1", Decision(0.51, 0.9))
    second = await promote(settings, "sharper", quality=QUALITY["2"])
    # A threshold goes with its version; what was set for the other model stays.
    assert judges(second.release) == (2, "2", "1", Decision(0.52, 0.9))
    assert second.changed == "photo_quality 1 is now photo_quality 2; good_threshold 0.51 is now 0.52"
    assert [(each.model, each.version, each.passed) for each in second.verifications] == [("photo_quality", 2, True)]
    again = await promote(settings, quality=QUALITY["2"])
    assert (again.appended, again.release) == (False, second.release)

    back = await promotion.rollback(settings, "worse at night")
    assert judges(back.release) == (3, "1", "1", Decision(0.51, 0.9))
    assert back.changed == "photo_quality 2 is now photo_quality 1; good_threshold 0.52 is now 0.51"
    forth = await promotion.rollback(settings, "it was the lamp", to=2)
    assert judges(forth.release) == (4, "2", "1", Decision(0.52, 0.9))
    assert not (await promotion.rollback(settings, "again", to=2)).appended
    log = await promotion.read_log(settings)
    assert [each.number for each in log] == [1, 2, 3, 4]
    assert [each.release.reason for each in log] == ["better", "sharper", "worse at night", "it was the lamp"]
    assert all("@" in each.release.by for each in log)


async def test_in_an_empty_log_the_newest_loaded_versions_are_the_start(settings: Settings) -> None:
    found = await promote(settings, good_threshold=0.3)
    assert judges(found.release) == (1, "2", "2", Decision(0.3, 0.62))
    assert len(found.verifications) == 2


async def test_thresholds_alone_need_no_verification(settings: Settings) -> None:
    await promote(settings, quality=QUALITY["1"], brand=LOGO["1"])
    found = await promote(settings, brand_threshold=0.7)
    assert judges(found.release) == (2, "1", "1", Decision(0.51, 0.7))
    assert found.verifications == ()
    with pytest.raises(Refused, match="no release"):
        await promote(settings, good_threshold=nan)
    assert len(await promotion.read_log(settings)) == 2


async def test_what_is_not_as_it_was_published_needs_force(settings: Settings, tmp_path: Path) -> None:
    await promote(settings, quality=QUALITY["1"], brand=LOGO["1"])
    assert settings.triton.repository is not None
    other = copytree(settings.triton.repository, tmp_path / "other")
    onnx.save(quality_graph(0.4), other / "photo_quality" / "2" / "model.onnx")
    (other / "brand_logo" / "2" / "MANIFEST.json").unlink()
    changed = settings.model_copy(update={"triton": settings.triton.model_copy(update={"repository": other})})
    with pytest.raises(Refused, match=r"photo_quality 2 is not as it was published: other files: model\.onnx"):
        await promote(changed, quality=QUALITY["2"])
    with pytest.raises(Refused, match="brand_logo 2 cannot be verified"):
        await promote(changed, brand=LOGO["2"])
    assert len(await promotion.read_log(settings)) == 1
    found = await promote(changed, "the disk was mended", forced=True, quality=QUALITY["2"], brand=LOGO["2"])
    assert judges(found.release) == (2, "2", "2", SECOND)
    assert [each.passed for each in found.verifications] == [False]


@pytest.mark.parametrize("forced", [True, False])
async def test_force_does_not_promote_what_cannot_serve(settings: Settings, forced: bool) -> None:
    await promote(settings, quality=QUALITY["1"], brand=LOGO["1"])
    with pytest.raises(NotFound, match="models load"):
        await promote(settings, quality=QUALITY["3"], forced=forced)
    with pytest.raises(ContractMismatch, match="end with no_logo"):
        await promote(settings, brand=ModelVersion("odd_logos", "1"), forced=forced)
    assert len(await promotion.read_log(settings)) == 1


async def test_a_model_of_another_name_has_its_own_labels(settings: Settings) -> None:
    first = await promote(settings, quality=QUALITY["1"], brand=LOGO["1"])
    second = await promote(settings, brand=ModelVersion("more_logos", "1"))
    assert second.release.release.brand == ModelVersion("more_logos", "1")
    assert second.release.release.label_checksum != first.release.release.label_checksum
    assert (await promotion.rollback(settings, "back")).release.release.decides == first.release.release.decides


async def test_there_is_nothing_before_the_first_release(settings: Settings) -> None:
    with pytest.raises(NotFound, match="no release before"):
        await promotion.rollback(settings, "back")
    await promote(settings, quality=QUALITY["1"], brand=LOGO["1"])
    with pytest.raises(NotFound, match="no release before"):
        await promotion.rollback(settings, "back")
    with pytest.raises(NotFound, match="release 2 never came into force"):
        await promotion.rollback(settings, "back", to=2)


async def test_what_the_last_two_releases_use_is_not_retired(settings: Settings) -> None:
    await promote(settings, quality=QUALITY["2"], brand=LOGO["1"])
    await promote(settings, brand=LOGO["2"])
    for name, number in (("photo_quality", 2), ("brand_logo", 1), ("brand_logo", 2)):
        with pytest.raises(Refused, match=f"{name} {number} stays loaded: it is"):
            await promotion.retire(settings, name, number)
