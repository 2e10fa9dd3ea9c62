"""The shipped model repository, served by a real Triton with the `cpu` variant."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from consumer.embedded.triton import Triton
from training.serving.engines import ENGINES

REPOSITORY = Path(__file__).parents[2] / "triton_models"
OUTPUTS = {"photo_quality": ["quality_score", "quality_levels"], "brand_logo": ["brand_probs"]}


@pytest.fixture(scope="module")
def client(triton: Triton) -> Iterator[triton_grpc.InferenceServerClient]:
    with triton_grpc.InferenceServerClient(triton.grpc_url) as connected:
        yield connected


def side_of(client: triton_grpc.InferenceServerClient, model: str) -> int:
    return int(client.get_model_config(model).config.input[0].dims[0])


def photos(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


def infer(client: triton_grpc.InferenceServerClient, model: str, images: np.ndarray) -> list[np.ndarray]:
    sent = triton_grpc.InferInput("images", list(images.shape), "UINT8")
    sent.set_data_from_numpy(images)
    answer = client.infer(model, [sent], client_timeout=20)
    return [answer.as_numpy(name) for name in OUTPUTS[model]]


def newest(model: str) -> Path:
    return max((p for p in (REPOSITORY / model).iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))


@pytest.mark.parametrize("model", sorted(OUTPUTS))
@pytest.mark.parametrize("count", [1, 5, 8])
def test_triton_answers_what_the_published_graph_computes(
    client: triton_grpc.InferenceServerClient, model: str, count: int
) -> None:
    manifest = json.loads((newest(model) / "MANIFEST.json").read_text())
    served = manifest.get("cpu", {"engine": "onnxruntime", "file": "model.onnx"})
    run = ENGINES[served["engine"]](onnx.load(newest(model) / served["file"]))
    images = photos(count, side_of(client, model))
    for got, want in zip(infer(client, model, images), run(images), strict=True):
        assert got.dtype == np.float32
        assert np.allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("model", sorted(OUTPUTS))
def test_the_contract_can_be_read_over_grpc(client: triton_grpc.InferenceServerClient, model: str) -> None:
    config = client.get_model_config(model).config
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    labels = json.loads(parameters["labels"])
    assert parameters["label_checksum"] == hashlib.sha256("\n".join(labels).encode()).hexdigest()
    assert list(config.input[0].dims) == [int(parameters["input_size"])] * 2 + [3]
    decision = json.loads(parameters[f"decision.{newest(model).name}"])
    assert decision == json.loads((newest(model) / "MANIFEST.json").read_text())["calibration"]
    assert config.output[-1].dims[0] == len(labels)


@pytest.mark.parametrize("model", sorted(OUTPUTS))
def test_photos_of_another_size_are_refused_and_the_next_ones_are_served(
    client: triton_grpc.InferenceServerClient, model: str
) -> None:
    with pytest.raises(InferenceServerException):
        infer(client, model, photos(1, 64))
    assert infer(client, model, photos(1, side_of(client, model)))[0].shape[0] == 1
