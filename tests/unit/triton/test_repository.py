"""The configuration that a load sends: as it was published, but for the versions that are served."""

import json
from typing import Any

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from consumer.triton.repository import _file, _shown, config_json
from training.models.spec import ModelSpec
from training.publish.model_config import VARIANTS, config_text

SPEC = ModelSpec("toy", (("brand_probs", 3),), "brand_probs", ("acme", "bolt", "no_logo"), 32)
DECISIONS = {3: {"threshold": 0.5, "temperature": 1.0}}


def parsed(text: str) -> Any:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_configuration_differs_from_the_published_one_in_its_versions_alone(variant: str) -> None:
    published = config_text(SPEC, variant, DECISIONS)
    sent: Any = json_format.Parse(config_json(published, {12, 3}), model_config_pb2.ModelConfig())
    assert list(sent.version_policy.specific.versions) == [3, 12]
    sent.version_policy.CopyFrom(parsed(published).version_policy)
    assert sent == parsed(published)


def test_versions_that_a_configuration_names_itself_are_replaced() -> None:
    sent = json.loads(config_json('name: "m" version_policy { specific { versions: [ 7 ] } }', {3}))
    assert sent["version_policy"] == {"specific": {"versions": ["3"]}}


def test_what_is_no_configuration_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="max_batch"):
        config_json("max_batch: 3", {1})


def test_the_served_file_is_the_versions_own_then_the_backends_then_the_configurations() -> None:
    engines = {3: {"engine": "openvino", "file": "model.int8.onnx"}}
    cpu = parsed(config_text(SPEC, "cpu", DECISIONS, engines))
    assert [_file(cpu, version) for version in ("3", "2")] == ["model.int8.onnx", "model.onnx"]
    assert _file(parsed(config_text(SPEC, "gpu", DECISIONS)), "3") == "model.plan"
    assert _file(parsed(config_text(SPEC, "ort", DECISIONS)), "3") == "model.onnx"
    assert _file(parsed('name: "foreign"'), "3") == ""


@pytest.mark.parametrize("engine", ["{", "[]", "{}", json.dumps("x")])
def test_an_engine_that_names_no_file_raises_what_its_reader_maps(engine: str) -> None:
    config = parsed('name: "m"')
    config.parameters["engine.1"].string_value = engine
    with pytest.raises((KeyError, TypeError, ValueError)):
        _file(config, "1")


def test_the_stack_of_the_backend_is_left_out() -> None:
    assert _shown("Internal: no model\n\nAt:\n  /a/model.py(31): run\n") == "Internal: no model"
    assert _shown("unloaded") == "unloaded"
