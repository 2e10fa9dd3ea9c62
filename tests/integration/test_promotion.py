"""Promotions and the way back on a real Kafka and Triton: each is a release, and none is of what was not verified."""

from math import nan
from pathlib import Path
from shutil import copytree

import onnx
import pytest

from consumer.errors import ContractMismatch, NotFound, Refused
from consumer.operations import promotion
from consumer.operations.promotion import Change, Wish
from consumer.releases import Decision, ModelVersion, Numbered
from consumer.settings import Settings
from tests.tiny_models import publish_quality, quality_graph

QUALITY = {number: ModelVersion("photo_quality", number) for number in ("1", "2")}
LOGO = {number: ModelVersion("brand_logo", number) for number in ("1", "2")}
FIRST, SECOND = Decision(0.51, 0.61), Decision(0.52, 0.62)


async def promote(settings: Settings, reason: str = "better", *, forced: bool = False, **wish: object) -> Change:
    return await promotion.promote(settings, Wish(**wish), reason, forced=forced)


def judges(release: Numbered) -> tuple[int, str, str, Decision]:
    now = release.release
    return release.number, now.quality.version, now.brand.version, now.decision


async def test_versions_go_into_force_one_by_one_and_back_again(operated: Settings) -> None:
    first = await promote(operated, quality=QUALITY["1"], brand=LOGO["1"], brand_threshold=0.9)
    assert judges(first.release) == (1, "1", "1", Decision(0.51, 0.9))
    second = await promote(operated, "sharper", quality=QUALITY["2"])
    # A threshold goes with its version; what was set for the other model stays.
    assert judges(second.release) == (2, "2", "1", Decision(0.52, 0.9))
    assert second.changed == "photo_quality 1 is now photo_quality 2; good_threshold 0.51 is now 0.52"
    assert [(each.model, each.version, each.passed) for each in second.verifications] == [("photo_quality", 2, True)]
    again = await promote(operated, quality=QUALITY["2"])
    assert (again.appended, again.release) == (False, second.release)

    back = await promotion.rollback(operated, "worse at night")
    assert judges(back.release) == (3, "1", "1", Decision(0.51, 0.9))
    assert back.changed == "photo_quality 2 is now photo_quality 1; good_threshold 0.52 is now 0.51"
    forth = await promotion.rollback(operated, "it was the lamp", to=2)
    assert judges(forth.release) == (4, "2", "1", Decision(0.52, 0.9))
    assert not (await promotion.rollback(operated, "again", to=2)).appended
    log = await promotion.read_log(operated)
    assert [each.number for each in log] == [1, 2, 3, 4]
    assert [each.release.reason for each in log] == ["better", "sharper", "worse at night", "it was the lamp"]
    assert all("@" in each.release.by for each in log)


async def test_in_an_empty_log_the_newest_loaded_versions_are_the_start(operated: Settings) -> None:
    found = await promote(operated, good_threshold=0.3)
    assert judges(found.release) == (1, "2", "2", Decision(0.3, 0.62))
    assert len(found.verifications) == 2


async def test_thresholds_alone_need_no_verification(operated: Settings) -> None:
    await promote(operated, quality=QUALITY["1"], brand=LOGO["1"])
    found = await promote(operated, brand_threshold=0.7)
    assert judges(found.release) == (2, "1", "1", Decision(0.51, 0.7))
    assert found.verifications == ()
    with pytest.raises(Refused, match="no release"):
        await promote(operated, good_threshold=nan)
    assert len(await promotion.read_log(operated)) == 2


async def test_what_is_not_as_it_was_published_needs_force(operated: Settings, tmp_path: Path) -> None:
    await promote(operated, quality=QUALITY["1"], brand=LOGO["1"])
    assert operated.triton.repository is not None
    other = copytree(operated.triton.repository, tmp_path / "other")
    onnx.save(quality_graph(0.4), other / "photo_quality" / "2" / "model.onnx")
    (other / "brand_logo" / "2" / "MANIFEST.json").unlink()
    changed = operated.model_copy(update={"triton": operated.triton.model_copy(update={"repository": other})})
    with pytest.raises(Refused, match=r"photo_quality 2 is not as it was published: other files: model\.onnx"):
        await promote(changed, quality=QUALITY["2"])
    with pytest.raises(Refused, match="brand_logo 2 cannot be verified"):
        await promote(changed, brand=LOGO["2"])
    assert len(await promotion.read_log(operated)) == 1
    found = await promote(changed, "the disk was mended", forced=True, quality=QUALITY["2"], brand=LOGO["2"])
    assert judges(found.release) == (2, "2", "2", SECOND)
    assert [each.passed for each in found.verifications] == [False]


@pytest.mark.parametrize("forced", [True, False])
async def test_force_does_not_promote_what_cannot_serve(operated: Settings, forced: bool) -> None:
    await promote(operated, quality=QUALITY["1"], brand=LOGO["1"])
    assert operated.triton.repository is not None
    other = ModelVersion("photo_quality", publish_quality(operated.triton.repository).name)
    with pytest.raises(NotFound, match="models load"):
        await promote(operated, quality=other, forced=forced)
    with pytest.raises(ContractMismatch, match="end with no_logo"):
        await promote(operated, brand=ModelVersion("odd_logos", "1"), forced=forced)
    assert len(await promotion.read_log(operated)) == 1


async def test_a_model_of_another_name_has_its_own_labels(operated: Settings) -> None:
    first = await promote(operated, quality=QUALITY["1"], brand=LOGO["1"])
    second = await promote(operated, brand=ModelVersion("more_logos", "1"))
    assert second.release.release.brand == ModelVersion("more_logos", "1")
    assert second.release.release.label_checksum != first.release.release.label_checksum
    assert (await promotion.rollback(operated, "back")).release.release.decides == first.release.release.decides


async def test_there_is_nothing_before_the_first_release(operated: Settings) -> None:
    with pytest.raises(NotFound, match="no release before"):
        await promotion.rollback(operated, "back")
    await promote(operated, quality=QUALITY["1"], brand=LOGO["1"])
    with pytest.raises(NotFound, match="no release before"):
        await promotion.rollback(operated, "back")
    with pytest.raises(NotFound, match="release 2 never came into force"):
        await promotion.rollback(operated, "back", to=2)


async def test_what_the_last_two_releases_use_is_not_retired(operated: Settings) -> None:
    await promote(operated, quality=QUALITY["2"], brand=LOGO["1"])
    await promote(operated, brand=LOGO["2"])
    for name, number in (("photo_quality", 2), ("brand_logo", 1), ("brand_logo", 2)):
        with pytest.raises(Refused, match=f"{name} {number} stays loaded: it is"):
            await promotion.retire(operated, name, number)
