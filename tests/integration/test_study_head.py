"""The head of a study, published, served by a real Triton, and used by the service end to end."""

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from PIL import Image
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from consumer.embedded.kafka import Kafka
from consumer.embedded.servers import Servers
from consumer.embedded.triton import Triton
from tests.fake_models import SIZE, write_repository
from tests.harness import PhotoServer, eventually, make_world
from training.data.degrade import WORST
from training.data.made import scene_uri
from training.data.photos import Photo
from training.heads.candidate import candidate_of
from training.heads.evaluation import LABELS, SplitFeatures
from training.heads.features import backbone, extract
from training.heads.folder import SavedHead, Trained, load, save
from training.publish.manifest import read_manifest
from training.publish.release import decide, release
from training.recipes.recipe import Model

REASON = "random weights: a test of the way, not of the head"


@dataclass(frozen=True, slots=True)
class Served:
    folder: Path
    kept: SavedHead
    repository: Path
    triton: Triton


@pytest.fixture(scope="module")
def served(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Features to PCA to SVM on a frozen network, published beside a predictable brand model."""
    folder = tmp_path_factory.mktemp("head")
    source = backbone(Model(arch="resnet10-w8"), px=SIZE)
    photos = [
        Photo(f"{i}", scene_uri("test", i), "scenes", rating=1.0 + i % 2 * WORST, damage=(i, WORST - i % 2 * WORST))
        for i in range(150)
    ]
    features = np.array(extract(source, photos, folder))
    good = np.array([photo.rating == 5 for photo in photos]).astype(int)
    svm = make_pipeline(PCA(12, whiten=True, random_state=0), CalibratedClassifierCV(SVC(C=0.4), ensemble=False))
    trained = Trained("svm", source, svm.fit(features[:80], good[:80]), tuple(photos[:80]))
    save(
        folder / "svm",
        trained,
        SplitFeatures(photos[80:110], features[80:110]),
        SplitFeatures(photos[110:], features[110:]),
    )
    repository = write_repository(folder / "models")
    shutil.rmtree(repository / "photo_quality")
    release(candidate_of(folder / "svm"), repository, REASON)
    triton = servers.start_triton(repository, name="study-head")
    yield Served(folder / "svm", load(folder / "svm"), repository, triton)
    triton.stop()


def test_triton_says_what_scikit_learn_says(served: Served) -> None:
    images = served.kept.images
    with triton_grpc.InferenceServerClient(served.triton.grpc_url) as client:
        for start, stop in ((0, 1), (1, 9), (9, 17)):
            sent = triton_grpc.InferInput("images", [stop - start, SIZE, SIZE, 3], "UINT8")
            sent.set_data_from_numpy(images[start:stop])
            answer = client.infer("photo_quality", [sent], client_timeout=60)
            for name, expected in zip(("quality_score", "quality_levels"), served.kept.expected, strict=True):
                assert np.abs(answer.as_numpy(name) - expected[start:stop]).max() < 2e-3


async def test_the_service_tags_photos_with_the_heads_score(
    served: Served, kafka: Kafka, redis_db: str, photos: PhotoServer
) -> None:
    world = make_world(kafka.bootstrap_servers, redis_db, served.triton.grpc_url, photos)
    threshold = served.kept.about["decision"]["good_threshold"]
    chosen = range(0, 40, 5)
    for index in chosen:
        body = io.BytesIO()
        Image.fromarray(served.kept.images[index]).save(body, "PNG")
        photos.answers[f"photo-{index}"] = body.getvalue()
        world.upload(f"photo-{index}")
    async with world.service() as service:
        await eventually(lambda: service.outcomes().get("tagged") == len(chosen))
    tags = {message.key().decode(): json.loads(message.value()) for message in world.tags()}
    for index in chosen:
        quality, expected = tags[f"photo-{index}"]["quality"], float(served.kept.expected[0][index, 0])
        assert quality["score"] == pytest.approx(expected, abs=2e-3)
        assert abs(quality["level"] - (1 + 4 * expected)) <= 0.51
        if abs(expected - threshold) > 2e-3:
            assert quality["good"] == (expected >= threshold)


def test_the_manifest_holds_the_proof_and_why_the_gate_was_overruled(served: Served) -> None:
    manifest = read_manifest(served.repository / "photo_quality", 1)
    assert {row["engine"] for row in manifest["parity"]} == {"onnxruntime", "openvino"}
    assert all(row["passed"] and row["max_abs_difference"] < 1e-3 for row in manifest["parity"])
    assert manifest["labels"] == list(LABELS)
    assert manifest["cpu"] == {"engine": "openvino", "file": "model.onnx"}
    assert manifest["forced"] == REASON
    assert "PCA(n_components=12" in manifest["training"]["estimator"]
    card = (served.repository / "photo_quality" / "1" / "card.md").read_text()
    assert "the expected level is exactly that" in card


def test_a_head_is_compared_with_the_published_version_on_its_own_photos(served: Served) -> None:
    decision = decide(candidate_of(served.folder), served.repository)
    assert decision.champion == 1
    compared = [check for check in decision.checks if "against version 1" in check.detail]
    assert len(compared) == 3
    assert all(check.passed for check in compared)
