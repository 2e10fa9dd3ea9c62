"""`deploy/kubernetes/base/install-models`: brings published versions into the volume that Triton serves."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy/kubernetes/base/install-models"


def publish(repository: Path, version: int, manifest: str = "published") -> None:
    folder = repository / "brand_logo" / str(version)
    (folder / "golden").mkdir(parents=True)
    (folder / "MANIFEST.json").write_text(f"{manifest} as {version}")
    (folder / "model.onnx").write_text(f"graph {version}")
    (folder / "golden/a.jpg").write_text("photo")
    (repository / "brand_logo/configs").mkdir(exist_ok=True)
    (repository / "brand_logo/configs/cpu.pbtxt").write_text(f"decisions up to {version}")
    (repository / "brand_logo/labels.txt").write_text("a brand")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    publish(tmp_path / "image", 1)
    return tmp_path / "image"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume"


def install(image: Path, volume: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", SCRIPT, image, volume], capture_output=True, text=True, check=False)


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_an_empty_volume_gets_the_repository_as_it_is(image: Path, volume: Path) -> None:
    assert install(image, volume).stdout == f"installed {volume}/brand_logo/1\n"
    assert files(volume) == files(image)


def test_what_is_there_is_left_alone(image: Path, volume: Path) -> None:
    install(image, volume)
    place = volume / "brand_logo/1"
    before = place.stat()
    assert install(image, volume).stdout == ""
    assert (place.stat().st_ino, place.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_new_version_comes_beside_the_old_one_with_its_configuration(image: Path, volume: Path) -> None:
    install(image, volume)
    publish(image, 10)
    assert install(image, volume).stdout == f"installed {volume}/brand_logo/10\n"
    assert files(volume) == files(image)


def test_a_copy_that_was_cut_off_is_made_again_and_was_never_a_version(image: Path, volume: Path) -> None:
    staged = volume / "brand_logo/.1.installed"
    staged.mkdir(parents=True)
    (staged / "model.onnx").write_text("gra")
    (staged / "what.else").write_text("")
    assert install(image, volume).returncode == 0
    assert files(volume) == files(image)


def test_another_version_of_the_same_number_is_refused(image: Path, volume: Path) -> None:
    publish(volume, 1, manifest="trained here")
    before = files(volume)
    refused = install(image, volume)
    assert refused.returncode == 1
    assert "brand_logo/1 was published differently there" in refused.stderr
    assert files(volume) == before


@pytest.mark.parametrize(("there", "brought"), [([2], 1), ([9, 10], 9)])
def test_an_older_image_does_not_take_the_decisions_of_a_newer_version_away(
    tmp_path: Path, volume: Path, there: list[int], brought: int
) -> None:
    for version in there:
        publish(volume, version)
    publish(tmp_path / "image", brought)
    assert install(tmp_path / "image", volume).returncode == 0
    assert (volume / f"brand_logo/{brought}/model.onnx").is_file()
    assert (volume / "brand_logo/configs/cpu.pbtxt").read_text() == f"decisions up to {there[-1]}"


def test_a_copy_that_fails_is_an_error_and_no_version(image: Path, volume: Path) -> None:
    (image / "brand_logo/1/model.onnx").write_text("graph" * 1000)
    limited = ["sh", "-c", 'ulimit -f 1; exec sh "$@"', "sh", SCRIPT, image, volume]
    failed = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert not (volume / "brand_logo/1").exists()
