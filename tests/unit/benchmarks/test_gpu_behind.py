"""What gpu-check puts behind Triton, and how it asks; a real Triton is in tests/integration/test_gpu_check.py."""

import json
import socket
import stat
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from benchmarks.gpu import behind
from training.engine.source import FP16, Source, source_of

ROOT = Path(__file__).parents[3]
#: Stands for the server of Triton's image: keeps its arguments, and is ready, or ends with 3.
SERVER = """#!{python}
import http.server, pathlib, sys
pathlib.Path({kept!r}).write_text("\\n".join(sys.argv[1:]))
if "--model-config-name=broken" in sys.argv:
    sys.exit(3)
port = next(int(each.split("=")[1]) for each in sys.argv if each.startswith("--http-port"))
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", port), Ready).serve_forever()
"""


@pytest.fixture
def source() -> Source:
    return source_of(ROOT / "triton_models", "brand_logo", 2, FP16)


def test_what_is_laid_out_is_the_published_model_but_for_its_engine(source: Source, tmp_path: Path) -> None:
    behind.lay_out(tmp_path, source, "tensorrt", {"model.plan": b"plan", "ENGINE.json": b"{}"})
    version = tmp_path / "brand_logo/2"
    assert (version / "published.py").read_bytes() == (source.folder / "model.py").read_bytes()
    assert (version / "model.plan").read_bytes() == b"plan"
    text = (version.parent / f"configs/{behind.CONFIG}.pbtxt").read_text()
    published = (source.folder.parent / "configs/cpu.pbtxt").read_text()
    found, wanted = (text_format.Parse(each, model_config_pb2.ModelConfig()) for each in (text, published))
    assert found.max_batch_size == 64
    chosen = {name: value.string_value for name, value in found.parameters.items()}
    assert json.loads(chosen.pop("engine.2")) == {"engine": "tensorrt", "file": "model.plan"}
    assert chosen.pop("PACKAGES").split(":")[0] == str(ROOT)
    assert "engine.1" not in chosen
    assert chosen.items() < {name: value.string_value for name, value in wanted.parameters.items()}.items()
    for config in (found, wanted):
        config.ClearField("parameters")
        config.ClearField("model_warmup")
        config.max_batch_size = 0
    assert found == wanted


def test_the_published_engine_is_read_from_the_configuration(source: Source) -> None:
    assert behind.published_engine(source) == {"engine": "openvino", "file": "model.int8.onnx"}
    assert behind.published_engine(replace(source, version=1)) == {"engine": "onnxruntime", "file": "model.onnx"}


def test_tensors_of_an_answer_follow_each_other() -> None:
    told = [("score", [2, 1]), ("levels", [2, 3])]
    header = json.dumps({"outputs": [
        {"name": name, "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": 4 * int(np.prod(shape))}}
        for name, shape in told
    ]}).encode()  # fmt: skip
    body = header + np.arange(8, dtype=np.float32).tobytes()
    found = behind.outputs(body, len(header))
    assert found["score"].tolist() == [[0], [1]]
    assert found["levels"].tolist() == [[2, 3, 4], [5, 6, 7]]


def test_in_tritons_image_its_own_server_is_started_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, kept = tmp_path / "bin/tritonserver", tmp_path / "arguments"
    server.parent.mkdir()
    server.write_text(SERVER.format(python=sys.executable, kept=str(kept)))
    server.chmod(server.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(server.parent), prepend=":")
    with behind.served(tmp_path, "gpu", ["brand_logo"]) as port:
        argv = kept.read_text().splitlines()
        assert {"--model-config-name=gpu", "--load-model=brand_logo", f"--http-port={port}"} < {*argv}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(TimeoutError, match="its exit code is 3"), behind.served(tmp_path, "broken", []):
        pass
