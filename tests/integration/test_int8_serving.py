"""A version with an int8 file is served by OpenVINO in a real Triton, beside an older one that ONNX Runtime serves."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton_grpc
from onnx import TensorProto, helper, numpy_helper

from consumer.embedded.servers import Servers
from training.models.spec import ModelSpec
from training.publish.bundle import Bundle
from training.publish.int8 import to_int8
from training.publish.manifest import Evidence
from training.publish.repository import publish
from training.serving.engines import ENGINES, outputs_of
from training.serving.files import INT8_FILE

SPEC = ModelSpec("toy", (("brand_probs", 3),), "brand_probs", ("acme", "bolt", "no_logo"), 32)


def photos(count: int) -> np.ndarray:
    coarse = np.random.default_rng(count).integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


def graph() -> onnx.ModelProto:
    """uint8 photos to three probabilities, through two convolutions of random weights."""
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name)

    stored = [
        weights("first", 16, 3, 3, 3),
        weights("second", 3, 16, 3, 3),
        numpy_helper.from_array(np.float32(127), "mean"),
        numpy_helper.from_array(np.float32(60), "deviation"),
        numpy_helper.from_array(np.array([2, 3], np.int64), "sides"),
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["planes", "mean"], ["centred"], "sub"),
        helper.make_node("Div", ["centred", "deviation"], ["normal"], "div"),
        helper.make_node("Conv", ["normal", "first"], ["a"], "conv1", strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "second"], ["c"], "conv2", strides=[2, 2]),
        helper.make_node("ReduceMean", ["c", "sides"], ["d"], "mean", keepdims=0),
        helper.make_node("Softmax", ["d"], ["brand_probs"], "softmax", axis=1),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 32, 32, 3])
    output = helper.make_tensor_value_info("brand_probs", TensorProto.FLOAT, ["batch", 3])
    made = helper.make_graph(nodes, "toy", [images], [output], stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@dataclass(frozen=True, slots=True)
class Served:
    client: triton_grpc.InferenceServerClient
    fp32: onnx.ModelProto
    int8: onnx.ModelProto

    def ask(self, version: int, images: np.ndarray) -> np.ndarray:
        sent = triton_grpc.InferInput("images", list(images.shape), "UINT8")
        sent.set_data_from_numpy(images)
        answer = self.client.infer(SPEC.name, [sent], str(version), client_timeout=60)
        return answer.as_numpy("brand_probs")


@pytest.fixture(scope="module")
def served(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    repository = tmp_path_factory.mktemp("repository")
    fp32 = graph()
    int8 = to_int8(fp32, photos(32))
    evidence = Evidence("0" * 64, {}, {"threshold": 0.5, "temperature": 1.0})
    publish(SPEC, repository, Bundle(fp32), evidence)
    publish(SPEC, repository, Bundle(fp32, {INT8_FILE: int8}), evidence)
    triton = servers.start_triton(repository, name="int8")
    with triton_grpc.InferenceServerClient(triton.grpc_url) as client:
        yield Served(client, fp32, int8)


@pytest.mark.parametrize("count", [1, 8])
def test_each_version_answers_with_its_own_file_and_engine(served: Served, count: int) -> None:
    images = photos(count)
    (fp32,) = outputs_of(ENGINES["onnxruntime"](served.fp32), images)
    (int8,) = outputs_of(ENGINES["openvino"](served.int8), images)
    assert not np.allclose(fp32, int8, atol=1e-6)
    assert np.allclose(served.ask(1, images), fp32, atol=1e-5)
    assert np.allclose(served.ask(2, images), int8, atol=1e-4)


def test_int8_stays_close_to_fp32(served: Served) -> None:
    images = photos(64)
    found = np.concatenate([served.ask(2, images[start : start + 8]) for start in range(0, 64, 8)])
    (fp32,) = outputs_of(ENGINES["onnxruntime"](served.fp32), images)
    assert np.abs(found - fp32).max() < 0.05
    assert (found.argmax(1) == fp32.argmax(1)).mean() > 0.9


def test_the_served_file_is_in_the_config_of_each_version(served: Served) -> None:
    parameters = served.client.get_model_config(SPEC.name).config.parameters
    assert INT8_FILE in parameters["engine.2"].string_value
