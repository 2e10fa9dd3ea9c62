"""The file that Triton executes, against stand-ins of Triton's own classes."""

import importlib.util
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Protocol

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from consumer.contract import CONTRACT_OUTPUT, Geometry, contract_id, label_checksum

SERVED = Path(__file__).parents[4] / "training" / "serving" / "model.py"


@dataclass
class Tensor:
    name: str
    value: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.value


@dataclass
class Response:
    output_tensors: list[Tensor] = field(default_factory=list)
    error: Exception | None = None


class Backend(Protocol):
    def initialize(self, args: dict[str, str]) -> None: ...

    def execute(self, requests: list[dict[str, Tensor]]) -> list[Response]: ...


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file as Triton loads it."""
    utils = SimpleNamespace(
        Tensor=Tensor,
        InferenceResponse=Response,
        TritonError=RuntimeError,
        get_input_tensor_by_name=lambda request, name: request.get(name),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    specification = importlib.util.spec_from_file_location("served_model", SERVED)
    assert specification is not None
    assert specification.loader is not None
    loaded: ModuleType = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    return loaded


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(tmp_path: Path, module: ModuleType, request: pytest.FixtureRequest) -> Backend:
    """A loaded backend whose graph returns the first pixel of each photo, as float."""
    write_graph(tmp_path / "3" / "model.onnx")
    return loaded_from(tmp_path, module, {"THREADS": "1", "ENGINE": request.param}, "first")


def loaded_from(folder: Path, module: ModuleType, parameters: dict[str, str], *outputs: str) -> Backend:
    loaded: Backend = module.TritonPythonModel()
    config = {
        "input": [{"dims": ["2", "2", "3"]}],
        "output": [{"name": name} for name in outputs],
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
    }
    loaded.initialize({"model_config": json.dumps(config), "model_repository": str(folder), "model_version": "3"})
    return loaded


def write_graph(path: Path) -> None:
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 2, 2, 3])
    first = helper.make_tensor_value_info("first", TensorProto.FLOAT, ["batch", 1])
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [0, 12])
    ends = [
        helper.make_tensor(name, TensorProto.INT64, [1], [at]) for name, at in (("from", 0), ("to", 1), ("axis", 1))
    ]
    nodes = [
        helper.make_node("Reshape", ["images", "shape"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["floats", "from", "to", "axis"], ["first"]),
    ]
    graph = helper.make_graph(nodes, "first", [images], [first], [shape, *ends])
    path.parent.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def of(*values: int) -> dict[str, Tensor]:
    pixels = np.zeros((len(values), 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0] = values
    return {"images": Tensor("images", pixels)}


def test_every_request_of_a_batch_gets_its_own_rows(backend: Backend) -> None:
    answers = backend.execute([of(7), of(8, 9), of(10)])
    assert [answer.output_tensors[0].value[:, 0].tolist() for answer in answers] == [[7], [8, 9], [10]]


def test_answers_say_their_contract_where_the_configuration_has_that_output(tmp_path: Path, module: ModuleType) -> None:
    write_graph(tmp_path / "3" / "model.onnx")
    labels = ("a", "no_logo")
    parameters = {"label_checksum": label_checksum(labels), "input_size": "2", "resize_short_side": "3"}
    answers = loaded_from(tmp_path, module, parameters, "first", CONTRACT_OUTPUT).execute([of(7), of(8, 9)])
    said = [{tensor.name: tensor.value for tensor in answer.output_tensors}[CONTRACT_OUTPUT] for answer in answers]
    assert [each.tolist() for each in said] == [[[contract_id(labels, Geometry(2, 3))]] * count for count in (1, 2)]
    assert {each.dtype for each in said} == {np.dtype(np.int64)}


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 20])
def test_a_batch_of_any_size_is_answered_in_order(backend: Backend, count: int) -> None:
    (answer,) = backend.execute([of(*range(count))])
    assert answer.output_tensors[0].value.shape == (count, 1)
    assert answer.output_tensors[0].value[:, 0].tolist() == list(range(count))


@pytest.mark.parametrize(("side", "images"), [(32, 8), (96, 4), (128, 4), (160, 2), (224, 1), (256, 1), (1024, 1)])
def test_a_run_takes_as_many_images_as_a_cache_holds(module: ModuleType, side: int, images: int) -> None:
    assert module._at_once(side, side) == images


def test_a_bad_request_gets_an_error_and_its_neighbours_their_answers(backend: Backend) -> None:
    wrong = {"images": Tensor("images", np.zeros((1, 5, 5, 3), np.uint8))}
    floats = {"images": Tensor("images", np.zeros((1, 2, 2, 3), np.float32))}
    answers = backend.execute([wrong, of(4), floats, {}])
    assert [answer.error is None for answer in answers] == [False, True, False, False]
    assert "UINT8" in str(answers[0].error)
    assert answers[1].output_tensors[0].value.tolist() == [[4]]


def test_a_batch_of_bad_requests_runs_nothing(backend: Backend) -> None:
    (answer,) = backend.execute([{}])
    assert answer.error is not None
