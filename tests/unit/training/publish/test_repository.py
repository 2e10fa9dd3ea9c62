"""The model repository: versions are immutable, complete and true; configs agree in every variant."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import model_config_pb2

from consumer.contract import CONTRACT_OUTPUT
from training.data.logos import BRANDS
from training.data.photos import NO_LOGO
from training.errors import PublishError
from training.models.spec import ModelSpec
from training.publish import repository as publishing
from training.publish.bundle import Bundle
from training.publish.manifest import Evidence, read_manifest
from training.publish.model_config import VARIANTS, config_text, contract_parameters
from training.publish.repository import publish, versions
from training.serving.files import sha256

REPOSITORY = Path(__file__).parents[4] / "triton_models"
LARGEST_BYTES = 16_000_000
LEVELS = ("1", "2", "3", "4", "5")
QUALITY = ModelSpec("photo_quality", (("quality_score", 1), ("quality_levels", 5)), "quality_levels", LEVELS)
BRAND = ModelSpec("brand_logo", (("brand_probs", len(BRANDS) + 1),), "brand_probs", (*BRANDS, NO_LOGO))


def fake_export(spec: ModelSpec, *variants: str) -> Bundle:
    """Graphs with a spec's inputs and outputs that compute sums of the pixels' means."""
    side = spec.input_px
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", side, side, 3])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name, width in spec.outputs]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "sides"], ["means"], keepdims=0),
        *(helper.make_node("MatMul", ["means", f"{name}.weights"], [name]) for name, _ in spec.outputs),
    ]
    stored = [numpy_helper.from_array(np.array([1, 2]), "sides")] + [
        numpy_helper.from_array(np.full((3, width), 1 / 765, np.float32), f"{name}.weights")
        for name, width in spec.outputs
    ]
    made = helper.make_graph(nodes, spec.name, [images], outputs, stored)
    graph = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return Bundle(graph, dict.fromkeys(variants, graph))


def evidence(threshold: float = 0.5) -> Evidence:
    return Evidence("0" * 64, {"accuracy": 0.9}, {"threshold": threshold, "temperature": 1.0})


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def parse(text: str) -> model_config_pb2.ModelConfig:
    config: model_config_pb2.ModelConfig = text_format.Parse(text, model_config_pb2.ModelConfig())
    return config


def test_a_version_carries_its_files_and_a_true_manifest(tmp_path: Path) -> None:
    path = publish(BRAND, tmp_path, fake_export(BRAND), evidence())
    assert path == tmp_path / "brand_logo" / "1"
    manifest = read_manifest(path.parent, 1)
    assert sorted(entry.name for entry in path.iterdir()) == ["MANIFEST.json", "golden", "model.onnx", "model.py"]
    assert manifest["files"] == {name: digest for name, digest in tree(path).items() if name != "MANIFEST.json"}
    assert manifest["labels"] == [*BRANDS, "no_logo"]
    assert manifest["label_checksum"] == hashlib.sha256("\n".join(manifest["labels"]).encode()).hexdigest()
    assert manifest["version"] == 1
    assert (path.parent / "labels.txt").read_text().split() == manifest["labels"]


def test_publishing_again_makes_the_next_version_and_keeps_the_first(tmp_path: Path) -> None:
    first = publish(BRAND, tmp_path, fake_export(BRAND), evidence(0.5))
    before = tree(first)
    second = publish(BRAND, tmp_path, fake_export(BRAND), evidence(0.7))
    assert second.name == "2"
    assert tree(first) == before
    for variant in VARIANTS:
        parameters = parse((tmp_path / "brand_logo/configs" / f"{variant}.pbtxt").read_text()).parameters
        assert json.loads(parameters["decision.1"].string_value)["threshold"] == 0.5
        assert json.loads(parameters["decision.2"].string_value)["threshold"] == 0.7


def test_each_version_serves_its_own_file_and_old_ones_keep_theirs(tmp_path: Path) -> None:
    publish(BRAND, tmp_path, fake_export(BRAND), evidence())
    publish(BRAND, tmp_path, fake_export(BRAND, "model.fp16.onnx", "model.int8.onnx"), evidence())
    parameters = parse((tmp_path / "brand_logo/configs/cpu.pbtxt").read_text()).parameters
    assert json.loads(parameters["engine.1"].string_value) == {"engine": "openvino", "file": "model.onnx"}
    assert json.loads(parameters["engine.2"].string_value) == {"engine": "openvino", "file": "model.int8.onnx"}
    assert parameters["MODEL_FILE"].string_value == "model.onnx"
    for variant in ("gpu", "ort"):
        assert "engine.2" not in parse((tmp_path / f"brand_logo/configs/{variant}.pbtxt").read_text()).parameters
    files = read_manifest(tmp_path / "brand_logo", 2)["files"]
    assert {name for name in files if not name.startswith("golden/")} == {
        "model.onnx",
        "model.fp16.onnx",
        "model.int8.onnx",
        "model.py",
    }


def test_the_manifest_keeps_the_gates_verdict_and_the_reason_of_whoever_overruled_it(tmp_path: Path) -> None:
    said = replace(evidence(), gate={"champion": 1, "checks": []}, forced="a demo", texts={"card.md": "# Card\n"})
    path = publish(BRAND, tmp_path, fake_export(BRAND), said)
    manifest = read_manifest(path.parent, 1)
    assert manifest["gate"] == {"champion": 1, "checks": []}
    assert manifest["forced"] == "a demo"
    assert manifest["files"]["card.md"] == sha256(path / "card.md")


def test_other_labels_need_another_model_name(tmp_path: Path) -> None:
    publish(BRAND, tmp_path, fake_export(BRAND), evidence())
    before = tree(tmp_path)
    with pytest.raises(PublishError, match="Publish under a new model name"):
        publish(replace(BRAND, labels=tuple(reversed(BRAND.labels))), tmp_path, fake_export(BRAND), evidence())
    assert tree(tmp_path) == before


def test_other_tensors_need_another_model_name(tmp_path: Path) -> None:
    publish(QUALITY, tmp_path, fake_export(QUALITY), evidence())
    before = tree(tmp_path)
    wider = replace(QUALITY, input_px=128)
    with pytest.raises(PublishError, match="Publish under a new model name"):
        publish(wider, tmp_path, fake_export(wider), evidence())
    assert tree(tmp_path) == before


def test_a_graph_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="not those of brand_logo"):
        publish(BRAND, tmp_path, fake_export(QUALITY), evidence())
    assert tree(tmp_path) == {}


def test_a_publish_that_fails_while_staging_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publishing, "write_graphs", full_disk)
    with pytest.raises(PublishError, match="No space left"):
        publish(BRAND, tmp_path, fake_export(BRAND), evidence())
    assert list(tmp_path.iterdir()) == []


def test_a_version_taken_by_another_publisher_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(BRAND, tmp_path, fake_export(BRAND), evidence(0.5))
    publish(BRAND, tmp_path, fake_export(BRAND), evidence(0.6))
    before = tree(tmp_path)
    seen = versions(tmp_path / "brand_logo")
    answers = iter([[1], seen])
    monkeypatch.setattr(publishing, "versions", lambda _dir: next(answers))
    with pytest.raises(PublishError, match="version 2"):
        publish(BRAND, tmp_path, fake_export(BRAND), evidence(0.9))
    assert tree(tmp_path) == before
    assert not [p for p in (tmp_path / "brand_logo").iterdir() if p.name.startswith(".")]


def test_hidden_directories_are_no_versions(tmp_path: Path) -> None:
    for name in (".3.77", "2", "configs", "10"):
        (tmp_path / name).mkdir()
    assert versions(tmp_path) == [2, 10]


@pytest.mark.parametrize("spec", [QUALITY, BRAND], ids=lambda spec: spec.name)
def test_variants_differ_in_engine_only(spec: ModelSpec) -> None:
    decisions = {1: {"temperature": 1.0}, 3: {"temperature": 2.0}}
    configs = {variant: parse(config_text(spec, variant, decisions)) for variant in VARIANTS}
    expected = contract_parameters(spec, decisions)
    for config in configs.values():
        assert config.name == spec.name
        assert config.input == configs["cpu"].input
        assert graph_outputs(config) == graph_outputs(configs["cpu"])
        assert config.version_policy == configs["cpu"].version_policy
        assert {name: config.parameters[name].string_value for name in expected} == expected
    assert list(configs["cpu"].input[0].dims) == [96, 96, 3]
    # Only the python backend can add an output to those of the graph.
    adding = [variant for variant, config in configs.items() if graph_outputs(config) != list(config.output)]
    assert adding == ["cpu"]


def graph_outputs(config: Any) -> list[Any]:
    return [output for output in config.output if output.name != CONTRACT_OUTPUT]


@pytest.mark.parametrize("spec", [QUALITY, BRAND], ids=lambda spec: spec.name)
def test_no_queue_policy_meets_a_single_instance(spec: ModelSpec) -> None:
    for variant in VARIANTS:
        config = parse(config_text(spec, variant, {}))
        assert config.instance_group[0].count >= 2
    cpu = parse(config_text(spec, "cpu", {})).dynamic_batching
    assert cpu.max_queue_delay_microseconds == 1000
    assert not cpu.HasField("default_queue_policy")
    assert cpu.priority_levels == 0


@pytest.mark.parametrize("spec", [QUALITY, BRAND], ids=lambda spec: spec.name)
def test_the_shipped_versions_match_their_manifests_and_configs(spec: ModelSpec) -> None:
    model_dir = REPOSITORY / spec.name
    shipped = versions(model_dir)
    assert shipped
    decisions, engines = {}, {}
    for version in shipped:
        manifest = read_manifest(model_dir, version)
        assert manifest["files"] == {name: sha256(model_dir / str(version) / name) for name in manifest["files"]}
        assert manifest["labels"] == list(spec.labels)
        assert manifest["label_checksum"] == spec.label_checksum
        onnx.checker.check_model(onnx.load(model_dir / str(version) / "model.onnx"))
        decisions[version] = manifest["calibration"]
        spec = replace(spec, input_px=manifest["training"]["recipe"]["model"]["input_px"])
        if "cpu" in manifest:
            engines[version] = manifest["cpu"]
    for variant in VARIANTS:
        assert (model_dir / "configs" / f"{variant}.pbtxt").read_text() == config_text(
            spec, variant, decisions, engines
        )


def test_the_shipped_models_are_small_enough_for_git() -> None:
    assert sum(path.stat().st_size for path in REPOSITORY.rglob("*") if path.is_file()) < LARGEST_BYTES
