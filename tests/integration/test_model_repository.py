"""The shipped model repository, served by a real Triton with the `cpu` variant, under numpy 1 and 2."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from consumer.contract import CONTRACT_OUTPUT, Geometry, contract_id
from consumer.embedded.paths import packages_of, servers_environment
from consumer.embedded.servers import Servers
from training.serving.engines import ENGINES

REPOSITORY = Path(__file__).parents[2] / "triton_models"
OUTPUTS = {"photo_quality": ["quality_score", "quality_levels"], "brand_logo": ["brand_probs"]}


def with_numpy_2(folder: Path) -> Path:
    """A servers' environment like the real one, with the numpy that the service itself runs with."""
    real = servers_environment()
    packages, _ = packages_of(real)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to((real / "bin" / "python").resolve())
    (folder / "bin" / "python3").symlink_to("python")
    (folder / "pyvenv.cfg").symlink_to(real / "pyvenv.cfg")
    own = folder / packages.relative_to(real)
    own.mkdir(parents=True)
    numpy = Path(np.__file__).parents[1].glob("numpy*")
    for part in (*(part for part in packages.iterdir() if not part.name.startswith("numpy")), *numpy):
        (own / part.name).symlink_to(part)
    return folder


@pytest.fixture(scope="module", params=["installed", "2"])
def client(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[triton_grpc.InferenceServerClient]:
    """A Triton whose stubs have the numpy of the servers' environment, and one with numpy 2, whose log stays clean."""
    if request.param == "installed":
        triton = request.getfixturevalue("triton")
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TAGGER_SERVERS_ENV", str(with_numpy_2(tmp_path_factory.mktemp("servers"))))
            triton = servers.start_triton(REPOSITORY, name="numpy2")
    with triton_grpc.InferenceServerClient(triton.grpc_url) as connected:
        yield connected
    assert "Traceback" not in triton.log_path.read_text()


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
    assert {output.name: output.dims[0] for output in config.output}[OUTPUTS[model][-1]] == len(labels)


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("model", OUTPUTS)
def test_each_answer_says_its_contract(client: triton_grpc.InferenceServerClient, model: str, version: str) -> None:
    images = photos(3, side_of(client, model))
    sent = triton_grpc.InferInput("images", list(images.shape), "UINT8")
    sent.set_data_from_numpy(images)
    said = client.infer(model, [sent], model_version=version, client_timeout=20).as_numpy(CONTRACT_OUTPUT)
    parameters = client.get_model_config(model).config.parameters
    sides = (int(parameters[name].string_value) for name in ("input_size", "resize_short_side"))
    labels = json.loads(parameters["labels"].string_value)
    assert said.tolist() == [[contract_id(labels, Geometry(*sides))]] * 3


@pytest.mark.parametrize("model", sorted(OUTPUTS))
def test_photos_of_another_size_are_refused_and_the_next_ones_are_served(
    client: triton_grpc.InferenceServerClient, model: str
) -> None:
    with pytest.raises(InferenceServerException):
        infer(client, model, photos(1, 64))
    assert infer(client, model, photos(1, side_of(client, model)))[0].shape[0] == 1
