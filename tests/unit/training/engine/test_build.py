"""Engines: built once, for this GPU, only with good answers; one that was cut off is never served."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.unit.training.engine.shop import H200, MODEL, PLACE, SHIPPED, FakeTensorRT, publish_file, repository
from tests.unit.training.engine.test_header import plan as header
from training.engine import files
from training.engine.accuracy import check_answers
from training.engine.build import build_all, check_all, sources
from training.engine.gpu import Gpu
from training.engine.record import RECORD, Place, Record, check, read_record
from training.engine.source import FP16, INT8, in_fp16, source_of
from training.errors import DataError, EngineError, EngineUnfit, GateRefused, TrainerError
from training.serving.files import FP16_FILE, FP32_FILE, PLAN_FILE


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return repository(tmp_path / "models")


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    return tmp_path / "engines"


def make(published: Path, engines: Path, trt: FakeTensorRT, place: Place = PLACE, newest: int = 2) -> list[Record]:
    said: list[str] = []
    return build_all(sources(published, [], newest, FP16), published, engines, trt.shop(place), said.append)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


def test_an_engine_is_built_from_the_fp16_graph_with_its_configurations_batches(published: Path, engines: Path) -> None:
    trt = FakeTensorRT(published)
    (record,) = make(published, engines, trt)
    assert trt.built == [(b"graph of version 2", (1, 32, 64), b"")]
    assert trt.batches == [1] * 8 + [8] + [64]
    assert record == read_record(engines / MODEL / "2")
    assert (record.place, record.recipe.file, record.accuracy["photos"]) == (PLACE, FP16_FILE, 8)
    assert check(engines / MODEL / "2", PLACE, record.recipe) == record


def test_the_folder_of_engines_is_a_repository_that_triton_can_serve(published: Path, engines: Path) -> None:
    make(published, engines, FakeTensorRT(published))
    assert set(tree(engines)) == {
        ".lock", f"{MODEL}/2/{PLAN_FILE}", f"{MODEL}/2/{RECORD}", f"{MODEL}/configs/gpu.pbtxt", f"{MODEL}/labels.txt",
        "timing-11.2.1.2-NVIDIA-H200.bin",
    }  # fmt: skip
    assert (engines / MODEL / "configs/gpu.pbtxt").read_bytes() == (
        published / MODEL / "configs/gpu.pbtxt"
    ).read_bytes()


def test_the_published_repository_is_only_read(published: Path, engines: Path) -> None:
    before = tree(published)
    make(published, engines, FakeTensorRT(published))
    assert tree(published) == before


def test_a_second_run_does_nothing(published: Path, engines: Path) -> None:
    trt = FakeTensorRT(published)
    make(published, engines, trt)
    before = {path: path.stat().st_mtime_ns for path in engines.rglob("*")}
    said: list[str] = []
    assert build_all(sources(published, [], 2, FP16), published, engines, trt.shop(), said.append) == []
    assert said == [f"{MODEL} 2: up to date"]
    assert len(trt.built) == 1
    assert {path: path.stat().st_mtime_ns for path in engines.rglob("*")} == before


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (Place("11.4.1.0", H200), "TensorRT 11.2.1.2, here is 11.4.1.0"),
        (Place("11.2.1.2", replace(H200, name="NVIDIA L4")), "GPU NVIDIA H200, here is NVIDIA L4"),
        (Place("11.2.1.2", replace(H200, capability="8.9")), "compute capability 9.0, here is 8.9"),
        (Place("11.2.1.2", replace(H200, driver="590.1")), "driver branch 580, here is 590"),
    ],
)
def test_an_engine_for_another_place_is_refused_and_built_again(
    place: Place, why: str, published: Path, engines: Path
) -> None:
    trt = FakeTensorRT(published)
    make(published, engines, trt)
    with pytest.raises(EngineUnfit, match=f"the engine of {MODEL} 2 does not fit: .*{why}; build it: photo-trainer x"):
        check_all(engines, [], 2, place, "photo-trainer x")
    make(published, engines, trt, place)
    assert len(trt.built) == 2


def test_another_release_of_the_same_driver_branch_fits(published: Path, engines: Path) -> None:
    make(published, engines, FakeTensorRT(published))
    place = Place("11.2.1.2", replace(H200, driver="580.99.01"))
    assert [each.version for each in check_all(engines, [], 2, place, "x")] == [2]


def test_another_graph_is_built_again_with_the_timings_of_the_first(published: Path, engines: Path) -> None:
    trt = FakeTensorRT(published)
    make(published, engines, trt)
    publish_file(published / MODEL / "2", FP16_FILE, b"other graph")
    make(published, engines, trt)
    assert [(graph, timings) for graph, _, timings in trt.built] == [
        (b"graph of version 2", b""),
        (b"other graph", b"+"),
    ]


@pytest.mark.parametrize("shift", [0.03, float("nan")])
def test_an_engine_with_other_answers_is_refused_and_the_old_one_stays(
    shift: float, published: Path, engines: Path
) -> None:
    make(published, engines, FakeTensorRT(published))
    before = tree(engines)
    publish_file(published / MODEL / "2", FP16_FILE, b"other graph")
    with pytest.raises(GateRefused, match=f"the engine of {MODEL} 2 answers .* away"):
        make(published, engines, FakeTensorRT(published, shift=shift))
    assert tree(engines) == before


def test_the_bound_is_the_one_that_publishing_states(published: Path, engines: Path) -> None:
    (record,) = make(published, engines, FakeTensorRT(published, shift=0.001))
    assert record.accuracy["tolerance"] == 0.02
    assert record.accuracy["largest_difference"] == pytest.approx(0.001, abs=1e-6)


def test_a_decision_that_changes_is_refused_even_within_the_bound(published: Path) -> None:
    manifest = json.loads((published / MODEL / "2/MANIFEST.json").read_text())
    best = max(max(photo["outputs"]["brand_probs"][:-1]) for photo in manifest["golden"]["photos"])
    manifest["calibration"]["threshold"] = best
    (published / MODEL / "2/MANIFEST.json").write_text(json.dumps(manifest))
    trt, source = FakeTensorRT(published, shift=-0.001), source_of(published, MODEL, 2, FP16)
    plan = trt.build(source.graph(), (1, 32, 64), b"", print).plan
    with trt.load(plan, 64) as answer, pytest.raises(GateRefused, match=r"decides as published on 87\.5%"):
        check_answers(source, answer)


def test_a_kill_between_plan_and_record_is_seen_and_mended(published: Path, engines: Path) -> None:
    trt = FakeTensorRT(published)
    make(published, engines, trt)
    (engines / MODEL / "2" / PLAN_FILE).write_bytes(header((11, 2, 1, 2)) + b"of the build that was cut off")
    with pytest.raises(EngineUnfit, match="its building was cut off, or it is damaged"):
        check_all(engines, [], 2, PLACE, "x")
    make(published, engines, trt)
    assert len(check_all(engines, [], 2, PLACE, "x")) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.training.engine.shop import FakeTensorRT
from tests.unit.training.engine.test_build import make
published, engines, graph = map(Path, sys.argv[1:])
trt = FakeTensorRT(published)
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
make(published, engines, trt)
"""


def test_a_builder_that_is_killed_while_it_writes_leaves_the_old_engine_and_no_lock(
    published: Path, engines: Path
) -> None:
    trt = FakeTensorRT(published)
    make(published, engines, trt)
    before = tree(engines)
    publish_file(published / MODEL / "2", FP16_FILE, b"other graph")
    argv = [sys.executable, "-c", KILLED, str(published), str(engines), "-"]
    killed = subprocess.run(argv, cwd=SHIPPED.parent, check=False, env=os.environ | {"PYTHONPATH": str(SHIPPED.parent)})
    assert killed.returncode == -signal.SIGKILL
    left = tree(engines)
    assert {name: left[name] for name in before} == before
    make(published, engines, trt)
    assert set(tree(engines)) == set(before)


def test_two_builders_do_not_work_in_one_folder(published: Path, engines: Path) -> None:
    with files.locked(engines), pytest.raises(EngineError, match="another builder is at work"):
        make(published, engines, FakeTensorRT(published))


def test_a_full_disk_is_one_line_and_the_old_engine_stays(
    published: Path, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(published, engines, FakeTensorRT(published))
    before = tree(engines)
    publish_file(published / MODEL / "2", FP16_FILE, b"other graph")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EngineError, match=r"brand_logo/2/model\.plan cannot be written: No space left on device"):
        make(published, engines, FakeTensorRT(published))
    assert tree(engines) == before


def test_only_the_newest_versions_are_built(tmp_path: Path, engines: Path) -> None:
    published = repository(tmp_path / "models", versions=(1, 2))
    assert [each.version for each in make(published, engines, FakeTensorRT(published), newest=1)] == [2]
    assert [each.version for each in make(published, engines, FakeTensorRT(published))] == [1]


def test_a_version_without_an_fp16_graph_is_brought_to_fp16_as_publishing_does() -> None:
    source = source_of(SHIPPED, MODEL, 2, FP16)
    assert source.recipe.file == FP32_FILE
    session = onnxruntime.InferenceSession(source.graph(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    small = replace(source, recipe=replace(source.recipe, batches=(1, 4, 8)))
    accuracy = check_answers(
        small, lambda images: dict(zip(names, map(np.asarray, session.run(names, {"images": images})), strict=True))
    )
    assert accuracy["largest_difference"] < 0.01
    assert in_fp16((SHIPPED / MODEL / "2" / FP32_FILE).read_bytes()) == source.graph()


def broken(how: str, published: Path) -> None:
    version = published / MODEL / "2"
    {
        "damaged": lambda: (version / FP16_FILE).write_bytes(b"other"),
        "no file": (version / FP16_FILE).unlink,
        "no manifest": (version / "MANIFEST.json").unlink,
        "empty manifest": lambda: (version / "MANIFEST.json").write_text("{}"),
        "no photo": lambda: next((version / "golden").iterdir()).unlink(),
        "no photo's bytes": lambda: next((version / "golden").iterdir()).write_bytes(b"x"),
        "no batch": lambda: (published / MODEL / "configs/gpu.pbtxt").write_text('name: "brand_logo"\n'),
    }[how]()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("damaged", "is not the file that was published"), ("no file", "cannot be read: No such file"),
        ("no manifest", "cannot be read: No such file"), ("empty manifest", "is no manifest with golden photos"),
        ("no photo", "cannot be read: No such file"), ("no photo's bytes", "golden photo .* cannot be read"),
        ("no batch", "has no max_batch_size"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_and_nothing_is_placed(
    how: str, says: str, published: Path, engines: Path
) -> None:
    trt = FakeTensorRT(published)
    broken(how, published)
    with pytest.raises(TrainerError, match=says):
        make(published, engines, trt)
    assert not (engines / MODEL).exists()


def test_a_model_that_is_not_there_is_named(published: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no model cats in .*; there are brand_logo"):
        sources(published, ["cats"], 2, FP16)
    with pytest.raises(DataError, match=r"no model repository at .*: No such file"):
        sources(tmp_path / "nowhere", [], 2, FP16)


def test_a_version_that_was_published_without_int8_says_so() -> None:
    with pytest.raises(DataError, match=r"photo_quality 2 was published without model\.int8\.onnx"):
        sources(SHIPPED, ["photo_quality"], 1, INT8)


@pytest.mark.parametrize("record", ["", "{}", "[]", '{"recipe": {}, "place": {}}', '{"recipe": {"batches": [1]}}'])
def test_a_record_that_is_none_is_said(record: str, published: Path, engines: Path) -> None:
    make(published, engines, FakeTensorRT(published))
    (engines / MODEL / "2" / RECORD).write_text(record)
    with pytest.raises(EngineUnfit, match=r"ENGINE\.json is no record"):
        check(engines / MODEL / "2", PLACE)


def test_folders_without_engines_say_how_to_build_them(engines: Path) -> None:
    with pytest.raises(EngineUnfit, match=r"holds no engines of any model .*; build them: photo-trainer x"):
        check_all(engines, [], 2, PLACE, "photo-trainer x")
    (engines / MODEL / "configs").mkdir(parents=True)
    (engines / MODEL / "configs/gpu.pbtxt").touch()
    with pytest.raises(EngineUnfit, match="holds no engine; build it"):
        check_all(engines, [], 2, PLACE, "x")
    (engines / MODEL / "2").mkdir()
    with pytest.raises(EngineUnfit, match=r"brand_logo 2 does not fit: ENGINE\.json cannot be read"):
        check_all(engines, [], 2, PLACE, "x")


def test_the_driver_branch_is_what_stands_before_the_first_dot() -> None:
    assert Gpu("x", "9.0", "580.65.06").driver_branch == "580"


def test_an_engine_without_an_output_or_with_one_of_another_width_is_refused(published: Path) -> None:
    source = source_of(published, MODEL, 2, FP16)
    with pytest.raises(GateRefused, match="has no output brand_probs of 11 values"):
        check_answers(source, lambda images: {"other": np.zeros((len(images), 11), np.float32)})
    with pytest.raises(GateRefused, match="has no output brand_probs of 11 values"):
        check_answers(source, lambda images: {"brand_probs": np.zeros((len(images), 12), np.float32)})
