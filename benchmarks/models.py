"""Images that OpenVINO judges in a CPU second: `.venv/bin/python -m benchmarks.models [VERSION_FOLDER | X.onnx ...]`.

Of published versions or graphs, or else of the networks that recipes name, with random weights. One thread, the code of
a published `model.py`, batches of 1 and of 8, float32 and int8 in turns; medians of the rounds, as Markdown.
"""

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx

from benchmarks import machine
from benchmarks.engine import backend
from benchmarks.networks import NETWORKS, exported, photos
from training.publish.int8 import to_int8
from training.serving.files import FP32_FILE, INT8_FILE

BATCHES = (1, 8)
KINDS = {FP32_FILE: "fp32", INT8_FILE: "int8"}
Run = Callable[[np.ndarray], list[np.ndarray]]


@dataclass(slots=True)
class Measured:
    """One network: its files by kind, and images per CPU second by kind and batch, one figure a round."""

    name: str
    side: int
    files: dict[str, Path]
    rates: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def cell(self, kind: str, batch: int) -> str:
        """The median of the rounds."""
        found = self.rates.get((kind, batch))
        return f"{statistics.median(found):,.0f}" if found else "-"

    def ratio(self, batch: int) -> str:
        """The median of int8 ÷ fp32 of the same round."""
        pairs = zip(*(self.rates.get((kind, batch), []) for kind in ("int8", "fp32")), strict=False)
        ratios = [int8 / fp32 for int8, fp32 in pairs]
        return f"{statistics.median(ratios):.2f}" if ratios else "-"


def given(path: Path) -> Measured:
    """A version's folder, or one graph, which counts as float32 unless it quantises.

    Raises:
        SystemExit: there is no graph.
    """
    files = [path / name for name in KINDS if (path / name).is_file()] if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise SystemExit(f"{path} is neither a graph nor a folder with {FP32_FILE} or {INT8_FILE}")
    graphs = {file: onnx.load(file).graph for file in files}
    quantised = {file: any(node.op_type == "DequantizeLinear" for node in graph.node) for file, graph in graphs.items()}
    side = next(iter(graphs.values())).input[0].type.tensor_type.shape.dim[1].dim_value
    name = f"{path.parent.name} {path.name}" if path.is_dir() else str(path)
    return Measured(name, side, {"int8" if quantised[file] else "fp32": file for file in files})


def made(name: str, folder: Path) -> Measured:
    """A network by its name in `NETWORKS`, written as both files."""
    _, side = NETWORKS[name]
    model = exported(name)
    files = {kind: folder / f"{name} {file}" for file, kind in KINDS.items()}
    onnx.save(model, files["fp32"])
    onnx.save(to_int8(model, photos(side)), files["int8"])
    return Measured(name, side, files)


def rate(run: Run, images: np.ndarray, seconds: float) -> float:
    """Images per second of this process's CPU time."""
    count, began, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        run(images)
        count += len(images)
    return count / (time.process_time() - used)


def measure(network: Measured, seconds: float, rounds: int) -> None:
    """Adds to its rates, kinds and batches in turns."""
    sys.modules["triton_python_backend_utils"] = backend()
    served = importlib.import_module("training.serving.model")
    runs: dict[str, Run] = {kind: served.openvino_run(file, 1)[1] for kind, file in network.files.items()}
    for number in range(rounds + 1):
        for batch in BATCHES:
            images = photos(network.side, batch)
            for kind, run in runs.items():
                found = rate(run, images, seconds if number else 0.1)
                if number:  # the first round warms up
                    network.rates.setdefault((kind, batch), []).append(found)


def table(networks: list[Measured]) -> str:
    """Markdown: a line a network."""
    heads = [f"{kind}, batch {batch}" for batch in BATCHES for kind in KINDS.values()]
    lines = [["images per CPU second", *heads, *(f"int8 ÷ fp32, batch {batch}" for batch in BATCHES)]]
    lines.append(["---"] * len(lines[0]))
    for network in networks:
        cells = [network.cell(kind, batch) for batch in BATCHES for kind in KINDS.values()]
        lines.append([network.name, *cells, *map(network.ratio, BATCHES)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="version folders or graphs; networks of recipes by default")
    parser.add_argument("--net", choices=NETWORKS, action="append", default=[], help="only this network, or these")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="of measurements in turns")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        nets = arguments.net or ([] if arguments.paths else NETWORKS)
        found = [*map(given, arguments.paths), *(made(name, Path(folder)) for name in nets)]
        before = machine.read({"own": time.process_time})
        for network in found:
            measure(network, arguments.seconds, arguments.rounds)
        usage = machine.between(before, machine.read({"own": time.process_time}))
    print(f"{machine.describe()}; {datetime.now(UTC):%Y-%m-%d}; others kept {usage.others:.1f} cores busy.\n")
    print(table(found))


if __name__ == "__main__":
    main()
