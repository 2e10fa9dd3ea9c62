"""int8 beside fp32 on the same cores: `.venv/bin/python -m benchmarks.serving [--triton] [--net NAME]`.

Each net is exported, quantised and published twice into a repository of its own: version 1 serves model.onnx with ONNX
Runtime, version 2 model.int8.onnx with OpenVINO. Raw: two processes of one thread each run the published model.py's own
engines. Triton: the embedded server with two instances, asked for both versions in turn. Rounds alternate, the table
holds medians; images per second of CPU time are what a busy machine leaves comparable.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tritonclient.grpc as triton_grpc

from benchmarks import machine
from benchmarks.networks import LABELS, NETWORKS, exported, photos
from consumer.embedded.paths import servers_environment
from consumer.embedded.servers import Servers
from training.models.spec import ModelSpec
from training.publish.bundle import Bundle
from training.publish.int8 import to_int8
from training.publish.manifest import Evidence
from training.publish.repository import publish
from training.serving.files import INT8_FILE

BATCHES = (1, 8)
ENGINE = Path(__file__).with_name("engine.py")


@dataclass(frozen=True, slots=True)
class Rate:
    """Images a second of wall time, and of CPU time."""

    wall: float
    cpu: float


def published(repository: Path, name: str) -> Path:
    """Both versions of a network, and the folder of the model."""
    _, side = NETWORKS[name]
    model = name.replace(" ", "-")
    spec = ModelSpec(model, (("brand_probs", len(LABELS)),), "brand_probs", LABELS, side)
    graph = exported(name)
    evidence = Evidence("0" * 64, {}, {"threshold": 0.5, "temperature": 1.0})
    publish(spec, repository, Bundle(graph), evidence)
    publish(spec, repository, Bundle(graph, {INT8_FILE: to_int8(graph, photos(side))}), evidence)
    return repository / model


def raw(model: Path, version: int, side: int, batch: int, seconds: float) -> Rate:
    """Two processes at once."""
    python = servers_environment() / "bin" / "python"
    argv = list(map(str, (python, ENGINE, model / str(version), side, batch, seconds)))
    workers = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = [json.loads(worker.communicate(timeout=120)[0]) for worker in workers]
    return Rate(sum(count / wall for count, wall, _ in found), sum(f[0] for f in found) / sum(f[2] for f in found))


def through_triton(servers: Servers, url: str, model: str, version: int, side: int, batch: int, seconds: float) -> Rate:  # noqa: PLR0917
    """Eight requests in flight from one process; CPU time is the server's."""
    images = photos(side, batch)
    sent = triton_grpc.InferInput("images", list(images.shape), "UINT8")
    sent.set_data_from_numpy(images)
    with triton_grpc.InferenceServerClient(url) as client, ThreadPoolExecutor(8) as pool:
        # every batch size that the batcher forms has been seen before anything is counted
        for _ in range(20):
            list(pool.map(lambda _index: client.infer(model, [sent], str(version), client_timeout=60), range(8)))
        deadline = time.perf_counter() + seconds

        def ask(_index: int) -> int:
            count = 0
            while time.perf_counter() < deadline:
                client.infer(model, [sent], str(version), client_timeout=60)
                count += batch
            return count

        began, used = time.perf_counter(), machine.cpu_seconds(servers.guardian_pid)
        count = sum(pool.map(ask, range(8)))
        return Rate(
            count / (time.perf_counter() - began), count / max(1e-6, machine.cpu_seconds(servers.guardian_pid) - used)
        )


def table(title: str, rounds: list[tuple[Rate, Rate]]) -> None:
    """One line: medians of both, and of the ratios of the pairs."""
    cells = []
    for kind in ("wall", "cpu"):
        pairs = [(getattr(old, kind), getattr(new, kind)) for old, new in rounds]
        middle = [statistics.median(values) for values in zip(*pairs, strict=True)]
        ratio = statistics.median(new / old for old, new in pairs)
        cells.append(f"{kind}: {middle[0]:8.1f} -> {middle[1]:8.1f} images/s, x{ratio:.2f}")
    print(f"{title:36}  {cells[0]}   {cells[1]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of measurements")
    parser.add_argument("--net", choices=NETWORKS, action="append", help="only this one; all by default")
    parser.add_argument("--triton", action="store_true", help="through the embedded Triton as well")
    arguments = parser.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory() as folder:
        models = {name: published(Path(folder), name) for name in arguments.net or NETWORKS}
        measure = {"raw, 2 processes": lambda m, v, s, b: raw(m, v, s, b, arguments.seconds)}
        if arguments.triton:
            with Servers() as servers:
                url = servers.start_triton(Path(folder)).grpc_url
                measure["Triton, 2 instances"] = lambda m, v, s, b: through_triton(
                    servers, url, m.name, v, s, b, arguments.seconds
                )
                run_all(models, measure, arguments.rounds)
        else:
            run_all(models, measure, arguments.rounds)


def run_all(models: dict[str, Path], measure: dict[str, object], rounds: int) -> None:
    """Every net, batch size and way, fp32 and int8 in turn."""
    for name, model in models.items():
        _, side = NETWORKS[name]
        for batch in BATCHES:
            for way, rate in measure.items():
                pairs = [tuple(rate(model, version, side, batch) for version in (1, 2)) for _ in range(rounds)]  # type: ignore[operator]
                table(f"{name}, batch {batch}, {way}", pairs)


if __name__ == "__main__":
    main()
