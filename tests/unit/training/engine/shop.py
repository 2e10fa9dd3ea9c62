"""A workshop without a GPU: its plans have a real header and the graph's hash, and answer what the manifest expects."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests.unit.training.engine.test_header import plan as header
from training.engine.accuracy import Answer, golden_images
from training.engine.build import Say, Workshop
from training.engine.gpu import Gpu
from training.engine.record import Place
from training.engine.source import FP16, source_of, version_numbers
from training.engine.tensorrt import Built
from training.serving.files import FP16_FILE, MANIFEST

SHIPPED = Path(__file__).parents[4] / "triton_models"
H200 = Gpu("NVIDIA H200", "9.0", "580.65.06")
PLACE = Place("11.2.1.2", H200)
MODEL = "brand_logo"


def repository(folder: Path, *, versions: tuple[int, ...] = (2,)) -> Path:
    """A published model whose versions have an fp16 file."""
    for version in versions:
        shutil.copytree(SHIPPED / MODEL / str(version), folder / MODEL / str(version))
        publish_file(folder / MODEL / str(version), FP16_FILE, b"graph of version %d" % version)
    shutil.copytree(SHIPPED / MODEL / "configs", folder / MODEL / "configs")
    shutil.copy(SHIPPED / MODEL / "labels.txt", folder / MODEL)
    return folder


def publish_file(version: Path, name: str, body: bytes) -> None:
    (version / name).write_bytes(body)
    manifest = json.loads((version / MANIFEST).read_text())
    manifest["files"][name] = hashlib.sha256(body).hexdigest()
    (version / MANIFEST).write_text(json.dumps(manifest))


class FakeTensorRT:
    """Builds and loads; counts, and answers `shift` away from what is expected."""

    def __init__(self, published: Path, *, shift: float = 0.0) -> None:
        self.built: list[tuple[bytes, tuple[int, int, int], bytes]] = []
        self.batches: list[int] = []
        self.shift = shift
        self._published = published

    def shop(self, place: Place = PLACE) -> Workshop:
        return Workshop(place, self.build, self.load)

    def build(self, graph: bytes, batches: tuple[int, int, int], timings: bytes, say: Say) -> Built:
        self.built.append((graph, batches, timings))
        say("Building: 3 of 7, 12 s")
        version = tuple(map(int, PLACE.tensorrt.split(".")))
        return Built(header(version) + hashlib.sha256(graph).digest(), timings + b"+")

    @contextmanager
    def load(self, plan: bytes, most: int) -> Iterator[Answer]:
        assert plan[:4] == b"ftrt"
        answers = self._answers(plan[-32:].hex())

        def answer(images: np.ndarray) -> dict[str, np.ndarray]:
            assert len(images) <= most
            self.batches.append(len(images))
            return {"brand_probs": np.stack([answers[image.tobytes()] for image in images]) + self.shift}

        yield answer

    def _answers(self, onnx_sha256: str) -> dict[bytes, np.ndarray]:
        """What the version with this graph is published to answer, by the bytes of a golden photo."""
        numbers = version_numbers(self._published / MODEL)
        sources = [source_of(self._published, MODEL, number, FP16) for number in numbers]
        source = next(each for each in sources if each.recipe.onnx_sha256 == onnx_sha256)
        rows = [photo["outputs"]["brand_probs"] for photo in source.manifest["golden"]["photos"]]
        return {
            image.tobytes(): np.array(row, np.float32) for image, row in zip(golden_images(source), rows, strict=True)
        }
