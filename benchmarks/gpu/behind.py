"""The same engines behind a real Triton, asked over the network as the service asks: what of an engine's rate is left.

In Triton's image `tritonserver` is on PATH, and TensorRT's own backend serves the configuration `gpu`. Elsewhere it is
the embedded server, whose Python backend runs the published model.py with an engine of benchmarks/gpu/engines.py.
"""

import http.client
import json
import re
import shutil
import site
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np

from benchmarks.gpu.rates import Row, judged, photos_of
from consumer.embedded.paths import free_port
from consumer.embedded.servers import Servers
from training.engine.source import Source

#: The configuration of what is laid out here.
CONFIG = "check"
ROOT = Path(__file__).parents[2]
#: Photos of a request, as the service sends them.
REQUEST = 8
IN_FLIGHT = {"cpu": 4, "cuda": 32}
_READY_WITHIN_S = 180
_ENGINE = re.compile(r'^parameters \{ key: "engine\.(\d+)" value \{ string_value: "(.*)" \} \}$', re.MULTILINE)


def lay_out(folder: Path, source: Source, engine: str, files: dict[str, bytes]) -> None:
    """A model with one version, as published but for its engine, whose file is the first one."""
    model = source.folder.parent
    config = (model / "configs/cpu.pbtxt").read_text()
    config = re.sub(r"^max_batch_size:.*$", f"max_batch_size: {source.recipe.batches[-1]}", config, flags=re.MULTILINE)
    config = re.sub(r"^model_warmup .*\n", "", _ENGINE.sub("", config), flags=re.MULTILINE)
    chosen = {"engine": engine, "file": next(iter(files))}
    packages = ":".join([str(ROOT), *site.getsitepackages()])
    for name, value in ((f"engine.{source.version}", json.dumps(chosen)), ("PACKAGES", packages)):
        config += f'parameters {{ key: "{name}" value {{ string_value: {json.dumps(value)} }} }}\n'
    version = folder / source.model / str(source.version)
    version.mkdir(parents=True)
    (version.parent / "configs").mkdir()
    (version.parent / f"configs/{CONFIG}.pbtxt").write_text(config)
    shutil.copy(model / "labels.txt", version.parent)
    shutil.copy(Path(__file__).with_name("served.py"), version / "model.py")
    shutil.copy(ROOT / "training/serving/model.py", version / "published.py")
    for name, body in files.items():
        (version / name).write_bytes(body)


def published_engine(source: Source) -> dict[str, str]:
    """Engine and file of a version in the configuration `cpu`."""
    text = (source.folder.parent / "configs/cpu.pbtxt").read_text()
    chosen: dict[str, str] = json.loads(json.loads(f'"{dict(_ENGINE.findall(text))[str(source.version)]}"'))
    return chosen


def has_tensorrt_backend() -> bool:
    """Whether Triton's image is where this runs."""
    return shutil.which("tritonserver") is not None


@contextmanager
def served(repository: Path, config: str, models: list[str]) -> Iterator[int]:
    """Triton over a repository.

    Yields:
        Its port for HTTP.

    Raises:
        EmbeddedServerError: It does not start, or is not installed.
        TimeoutError: The one on PATH does not start.
    """
    if not has_tensorrt_backend():
        with Servers() as servers:
            yield servers.start_triton(repository, config, models).http_port
        return
    ports = {name: free_port() for name in ("http", "grpc", "metrics")}
    argv = [
        "tritonserver",
        f"--model-repository={repository}",
        f"--model-config-name={config}",
        "--disable-auto-complete-config",
        "--model-control-mode=explicit",
        "--exit-timeout-secs=30",
        *(f"--load-model={name}" for name in models),
        *(f"--{name}-port={port}" for name, port in ports.items()),
    ]
    process = subprocess.Popen(argv, stdout=sys.stderr)
    try:
        wait_until_ready(ports["http"], process)
        yield ports["http"]
    finally:
        process.terminate()
        process.wait(60)


def wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    """Returns when the server answers that it is ready.

    Raises:
        TimeoutError: It does not, or has ended.
    """
    ends = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < ends and process.poll() is None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection, suppress(OSError):
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == http.client.OK:
                return
        time.sleep(0.2)
    raise TimeoutError(f"tritonserver does not serve: its exit code is {process.poll()}")


def asker(port: int, source: Source) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """What asks one version over HTTP, from any number of threads, each with a connection of its own."""
    mine = threading.local()
    path = f"/v2/models/{source.model}/versions/{source.version}/infer"

    def ask(images: np.ndarray) -> dict[str, np.ndarray]:
        if not hasattr(mine, "connection"):
            mine.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        sent = {"name": "images", "datatype": "UINT8", "shape": images.shape,
                "parameters": {"binary_data_size": images.nbytes}}  # fmt: skip
        header = json.dumps({"inputs": [sent], "parameters": {"binary_data_output": True}}).encode()
        length = {"Inference-Header-Content-Length": str(len(header))}
        mine.connection.request("POST", path, header + images.tobytes(), length)
        response = mine.connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            raise ConnectionError(f"Triton refuses: {body[:300].decode(errors='replace')}")
        return outputs(body, int(response.headers["Inference-Header-Content-Length"]))

    return ask


def outputs(body: bytes, header: int) -> dict[str, np.ndarray]:
    """The FP32 tensors of an answer: a header of JSON, and their bytes one after the other."""
    found, start = {}, header
    for told in json.loads(body[:header])["outputs"]:
        stop = start + told["parameters"]["binary_data_size"]
        if told["datatype"] == "FP32":  # what else there is says under which contract these were made
            found[told["name"]] = np.frombuffer(body[start:stop], np.float32).reshape(told["shape"])
        start = stop
    return found


def rows(  # noqa: PLR0917 - the parts of one measurement
    sources: list[Source], repository: Path, config: str, name: Callable[[Source], str], seconds: float, device: str
) -> Iterator[Row]:
    """One server for all models, which are measured one after the other.

    Yields:
        A row for each version.

    Raises:
        EmbeddedServerError: There is no Triton, or it does not start.
        TimeoutError: The one on PATH does not start.
    """
    with served(repository.absolute(), config, [source.model for source in sources]) as port:
        for source in sources:
            yield row(source, name(source), port, seconds, IN_FLIGHT[device])


def row(source: Source, engine: str, port: int, seconds: float, in_flight: int) -> Row:
    """Rate of so many requests at once, and the answers to the golden photos."""
    ask = asker(port, source)
    difference, refused = judged(source, ask)
    images = photos_of(source, REQUEST)
    with ThreadPoolExecutor(in_flight) as pool:
        # The first requests find what an engine still has to prepare for larger batches.
        _ask_until(pool, ask, images, seconds / 3, in_flight)
        began = time.perf_counter()
        count = _ask_until(pool, ask, images, seconds, in_flight)
        rate = count * REQUEST / (time.perf_counter() - began)
    name = f"{engine}, behind Triton, {in_flight} at once"
    return Row(source.model, source.version, name, REQUEST, round(rate, 1), None, difference, source.tolerance, refused)


def _ask_until(
    pool: ThreadPoolExecutor, ask: Callable[[np.ndarray], object], images: np.ndarray, seconds: float, in_flight: int
) -> int:
    ends = time.perf_counter() + seconds

    def asked() -> int:
        count = 0
        while time.perf_counter() < ends:
            ask(images)
            count += 1
        return count

    return sum(each.result() for each in [pool.submit(asked) for _ in range(in_flight)])
